"""`train.page`: the page's numbers against JAX's, and the page in a real browser."""

import functools
import json
import re
import shutil
import unicodedata
from pathlib import Path

import jax
import numpy as np
import pytest

from rnnjax import lessons as models
from rnnjax.text import SPELLINGS, to_alphabet, transliterate
from tests import untrained
from train import sample, trained
from train.cli import InputError, printable
from train.datasets import load_names
from train.names.settings import SETTINGS
from train.page import __main__ as page
from train.runs.directory import RunDirectory, open_trained

ROOT = Path(__file__).resolve().parent.parent
NAMES = load_names(ROOT / "data" / "sample" / "names")
TEXT = "The carry goes on.\nThe gradient does not: café, $1.\n" * 12

MANY = {("best", "gru"), ("workshop", "attention")}
"""The models that are asked 200 names."""

UNTESTED = "the page was not tested in a browser"
"""What .ci/run looks for."""

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
)

PHONE = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
}


def random_params(model, scale=2.0, seed=0):
    """Parameters that make the answers differ, as a trained model's do."""
    rng = np.random.default_rng(seed)

    def draw(shape):
        deviation = scale / np.sqrt(shape[0]) if len(shape) == 2 else 0.5
        return rng.normal(scale=deviation, size=shape).astype(np.float32)

    tokens = jax.ShapeDtypeStruct((1, 2), np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    return jax.tree.map(lambda leaf: draw(leaf.shape), shapes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Makes runs, with parameters that nobody trained: ``runs(recipe, model)``."""
    directory = tmp_path_factory.mktemp("runs")
    made = {}

    source = directory / "text.txt"
    source.write_text(TEXT, "utf-8")

    def names_run(out, recipe, model):
        sizes = {} if recipe == "best" else {"hidden_size": 12}
        sizes |= {"mlp_size": 10} if recipe == "binary" else {}
        return untrained.names_run(out, recipe, model, random_params, **sizes)

    def charlm_run(out, recipe, tokens):
        def params_of(model):
            # With most others it soon writes the same character again and again.
            params = random_params(model, scale=4.0, seed=4)
            if tokens == "bytes":
                # Else hardly any of them would be text.
                params["h2o"]["bias"][128:] -= 5
            return params

        flags = {"recipe": recipe, "tokens": tokens, "hidden_size": 32}
        flags |= {"mlp_size": 24} if recipe == "lab" else {}
        return untrained.charlm_run(out, source, params_of, **flags)

    def run(*which) -> Path:
        if which not in made:
            make = charlm_run if which[0] in ("lab", "shakespeare") else names_run
            made[which] = make(directory / "-".join(which), *which)
        return made[which]

    return run


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason=f"{UNTESTED}: pip install playwright"
    )
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip(f"{UNTESTED}: there is no chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    """Makes the page of some runs, once."""
    directory = tmp_path_factory.mktemp("pages")

    @functools.cache
    def make(paths, weights) -> Path:
        out = directory / f"{'-'.join(path.name for path in paths)}-{weights}.html"
        page.main(page.Config(paths, out, weights))
        return out

    return make


@pytest.fixture
def show(chromium, page_of):
    """Opens the page of some runs; in the end it must not have loaded or complained."""
    complaints, requests, opened, contexts = [], [], [], []

    def show(*paths, weights="float32", **device):
        url = page_of(paths, weights).as_uri()
        opened.append(url)
        contexts.append(chromium.new_context(**device))
        shown = contexts[-1].new_page()
        shown.set_default_timeout(10_000)
        shown.on("console", lambda message: complaints.append(message.text))
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.on("dialog", lambda dialog: complaints.append(dialog.message))
        shown.on("request", lambda request: requests.append(request.url))
        shown.goto(url)
        return shown

    yield show
    for context in contexts:
        context.close()
    assert not complaints
    assert requests == opened


def some_names(num: int, longest: int = 100) -> list[str]:
    """Names of all languages, and some with letters that no model knows."""
    rng = np.random.default_rng(0)
    odd = ["Ślusàrski", "Weiß", "D’Angelo", "Þórr  Æ", "ﬁa ①", "Nguyễn", "l\u0301o日"]
    names = [*odd, *map(str, rng.permutation(NAMES.names))]
    return [name for name in names if len(name) <= longest][:num]


ASK = "names => names.map(name => ask(RUNS[0], name))"


def worst_difference(shown, run: Path, asked: list[str]) -> float:
    """Between the page's probabilities or attention and those of train.predict."""
    classifier = trained.load_classifier(open_trained(run, "names"))
    worst = 0.0
    for name, found in zip(asked, shown.evaluate(ASK, asked), strict=True):
        answer = trained.ask(name, classifier)
        assert found["spelling"] == answer.spelling
        pairs = [(found["probs"], answer.probs)]
        if answer.attention is not None:
            pairs.append((found["attention"], answer.attention.weights))
        worst = max(worst, *(np.abs(np.subtract(*pair)).max() for pair in pairs))
    return worst


@pytest.mark.parametrize(("recipe", "model"), SETTINGS)
def test_probabilities_are_those_of_predict(runs, show, recipe, model):
    # Of the others only names of one width: JAX compiles for each.
    asked = some_names(200) if (recipe, model) in MANY else some_names(20, longest=7)
    run = runs(recipe, model)
    assert worst_difference(show(run), run, asked) < 1e-5


def test_float16_halves_the_page(runs, show, tmp_path):
    run = runs("best", "gru")
    exact = page.page_of([open_trained(run, "names")], "float32")
    half = page.page_of([open_trained(run, "names")], "float16")
    assert 0.5 < len(half) / len(exact) < 0.55
    worst = worst_difference(show(run, weights="float16"), run, some_names(50))
    assert 1e-5 < worst < 0.02


def test_changes_are_those_of_the_prefixes(runs, show):
    run = runs("practical", "lstm")
    classifier = trained.load_classifier(open_trained(run, "names"))
    (found,) = show(run).evaluate(ASK, ["Rossi"])
    course = [trained.ask("Rossi"[:n], classifier).probs for n in range(1, 6)]
    course = [probs[found["answer"]] for probs in course]
    np.testing.assert_allclose(found["changes"][1:], np.diff(course), atol=1e-5)
    # Before the first letter there is an answer as well.
    assert 0 <= course[0] - found["changes"][0] <= 1


def test_characters_are_spelled_as_in_python(runs, show):
    run = runs("best", "gru")
    alphabet = trained.load_classifier(open_trained(run, "names")).vocabulary.characters
    # All that can be spelled otherwise, and every hundredth of the rest.
    characters = [
        c
        for c in map(chr, [*range(0xD800), *range(0xE000, 0x30000)])
        if ord(c) % 1000 == 0
        or c in SPELLINGS
        or (unicodedata.normalize("NFKD", c) != c and not "가" <= c <= "힣")
        or c.isspace()
    ]
    assert len(characters) > 4000
    expected = {
        "respell": [
            "".join(
                s for s in (c if c in alphabet else transliterate(c)) if s in alphabet
            )
            for c in characters
        ],
        "stripAccents": [to_alphabet(c, alphabet) for c in characters],
        "oneSpace": [" ".join(f"a{c}b".split()) for c in characters],
    }
    found = show(run).evaluate(
        "([characters, alphabet]) => ({"
        "  respell: characters.map((c) => respell(c, alphabet)),"
        "  stripAccents: characters.map((c) => stripAccents(c, alphabet)),"
        "  oneSpace: characters.map((c) => oneSpace(`a${c}b`)),"
        "})",
        [characters, alphabet],
    )
    for function, spelled in expected.items():
        pairs = zip(characters, found[function], spelled, strict=True)
        assert not [pair for pair in pairs if pair[1] != pair[2]]


def shares(shown) -> list[float]:
    """The percentages beside the bars; "< 0.1 %" as 0. None where there are none."""
    texts = filter(None, shown.locator("section:visible .share").all_inner_texts())
    return [0 if "<" in text else float(text.removesuffix("\u00a0%")) for text in texts]


def test_every_letter_moves_the_bars(runs, show):
    run = runs("workshop", "gru")
    classifier = trained.load_classifier(open_trained(run, "names"))
    shown = show(run)
    field = shown.get_by_role("textbox", name="Name")
    assert shares(shown) == []
    assert shown.locator(".label").all_inner_texts() == list(classifier.languages)
    for length in range(1, 6):
        field.press("Rossi"[length - 1])
        probs = trained.ask("Rossi"[:length], classifier).probs
        np.testing.assert_allclose(shares(shown), 100 * probs, atol=0.1)
        assert shown.locator(".letters li").count() == length
        language = classifier.languages[probs.argmax()]
        assert shown.locator(".answer").inner_text().startswith(language)
        assert shown.locator(".first .label").inner_text() == language
    assert f"in the probability of {language}" in shown.locator(".key").inner_text()
    # A screen reader hears it once the typing has paused.
    said = shown.get_by_role("status").filter(has_text=f"{language} ")
    said.wait_for(state="attached")


def test_attention_is_shown_with_its_own_legend(runs, show):
    run = runs("workshop", "attention")
    shown = show(run)
    shown.get_by_role("textbox", name="Name").fill("Rossi")
    attention = trained.ask(
        "Rossi", trained.load_classifier(open_trained(run, "names"))
    ).attention
    numbers = shown.locator(".number").all_inner_texts()
    np.testing.assert_allclose(
        np.array(numbers, float), 100 * attention.weights, atol=0.51
    )
    assert "attention" in shown.locator(".key").inner_text()


def test_what_is_no_name_is_said(runs, show):
    shown = show(runs("practical", "linear"))
    field = shown.get_by_role("textbox", name="Name")
    for typed, said in {
        "": "",
        " \t\u3000 ": "",
        "😀": "No letter that the model knows; expected Latin script.",
        "שלום": "No letter that the model knows; expected Latin script.",
        "x" * 1001: "A name has at most 1000 characters here.",
    }.items():
        field.fill("Rossi")
        assert shown.locator(".letters").is_visible()
        field.fill(typed)
        assert shown.locator(".error").inner_text() == said
        assert shown.locator(".letters").is_hidden()
        assert shares(shown) == []


def test_odd_names_are_only_letters(runs, show):
    shown = show(runs("workshop", "rnn"), **PHONE)
    for typed, spelling in {
        "<img src=x onerror=alert(1)>": "img srcx onerroralert",
        "\u202eabc\u0000\u200d": "abc",
        "שלום Rossi 😀": " Rossi ",
        "a" * 1000: "a" * 1000,
        "__proto__ constructor": "proto constructor",
    }.items():
        shown.get_by_role("textbox", name="Name").fill(typed)
        letters = shown.locator(".letter").all_inner_texts()
        assert "".join(letters).replace("␣", " ") == spelling
        assert shown.locator("img").count() == 0
        assert sum(shares(shown)) == pytest.approx(100, abs=2)
        assert fits(shown)


def fits(shown) -> bool:
    """Whether nothing sticks out at the right."""
    return shown.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_model_of_padded_names_says_what_is_too_long(runs, show):
    shown = show(runs("binary", "mlp"))
    shown.get_by_role("textbox", name="Name").fill("a" * 19)
    said = shown.locator(".error").inner_text()
    assert said == "This model takes names of at most 18 letters."


@pytest.mark.parametrize(
    ("recipe", "tokens", "prompt"),
    [
        ("shakespeare", "chars", "Thé gr日"),
        ("shakespeare", "chars", ""),
        ("shakespeare", "bytes", "café\n"),
        ("lab", "chars", "on.\nThe"),
    ],
)
def test_greedy_text_is_that_of_sample(recipe, tokens, prompt, runs, show, capsys):
    run = runs(recipe, tokens)
    shown = show(run)
    shown.get_by_role("textbox", name="Prompt").fill(prompt)
    shown.get_by_role("slider", name="Temperature").press("Home")
    # All in one frame, for nobody watches.
    shown.evaluate("() => { window.requestAnimationFrame = queueMicrotask; }")
    shown.get_by_role("button", name="Write").click()
    shown.get_by_text("500 characters written").wait_for()
    found = shown.locator(".written").evaluate("element => element.textContent")
    capsys.readouterr()
    flags = {"prompt": prompt} if prompt else {}
    sample.main(sample.Config(run, length=100, temperature=0.0, **flags))
    text = capsys.readouterr().out.removesuffix("\n")
    # The program writes what a terminal would obey as escapes.
    found = printable(found, keep="\n\t")
    assert found.startswith(text if prompt else text.removeprefix("\n"))
    assert len(set(text[-50:])) > 3


def test_bytes_become_characters_when_they_are_complete(runs, show):
    shown = show(runs("shakespeare", "bytes"))
    tokens = [*"é日".encode(), 255, *b"a"]
    found = shown.evaluate(
        "tokens => { const codec = codecOf({alphabet: null});"
        " return tokens.map(codec.decode); }",
        tokens,
    )
    decode = trained.load_writer(open_trained(runs("shakespeare", "bytes"), "charlm"))
    decode = decode.codec.decoder()
    assert found == [decode([token]) for token in tokens]
    assert found == ["", "é", "", "", "日", "\N{REPLACEMENT CHARACTER}", "a"]


def test_text_by_keyboard(runs, show):
    shown = show(runs("shakespeare", "chars"))
    written = shown.locator(".written")
    shown.keyboard.press("Tab")
    shown.keyboard.type("The")
    shown.keyboard.press("Tab")
    shown.keyboard.press("ArrowLeft")
    assert shown.locator(".value").inner_text() == "0.75"
    shown.keyboard.press("Tab")
    shown.keyboard.press("Tab")
    shown.keyboard.press("Enter")
    shown.get_by_text("1 character written").wait_for()
    assert len(written.evaluate("element => element.textContent")) == 4
    shown.keyboard.press("Shift+Tab")
    shown.keyboard.press("Space")
    shown.get_by_role("button", name="Stop").wait_for()
    shown.keyboard.press("Escape")
    shown.get_by_role("button", name="Write").wait_for()
    length = len(written.evaluate("element => element.textContent"))
    assert 4 < length < 504
    shown.wait_for_timeout(100)
    assert len(written.evaluate("element => element.textContent")) == length
    shown.get_by_role("button", name="Start again").press("Enter")
    assert written.evaluate("element => element.textContent") == "The"


def test_drawn_characters_have_the_frequencies_of_the_bars(runs, show):
    shown = show(runs("shakespeare", "chars"))
    logits = np.log([0.5, 0.3, 0.2])
    found = shown.evaluate(
        "([logits, temperature]) => {"
        "  const probs = nextProbs(Float32Array.from(logits), temperature);"
        "  const counts = [0, 0, 0];"
        "  for (let i = 0; i < 20000; i++) counts[draw(probs)]++;"
        "  return [probs, counts.map((count) => count / 20000)];"
        "}",
        [logits.tolist(), 0.5],
    )
    expected = np.array([0.25, 0.09, 0.04]) / 0.38
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    np.testing.assert_allclose(found[1], expected, atol=0.02)


def test_unknown_characters_of_a_prompt_are_said(runs, show):
    shown = show(runs("shakespeare", "chars"))
    shown.get_by_role("textbox", name="Prompt").fill("où 日")
    said = shown.get_by_role("status").inner_text()
    assert said.startswith("Not known to the model: ù 日; written without an accent")
    shown.get_by_role("textbox", name="Prompt").fill("日本")
    assert (
        shown.get_by_role("status").inner_text() == "No character that the model knows."
    )
    assert shown.get_by_role("button", name="Write").is_disabled()


def test_tabs_by_keyboard_and_by_touch(runs, show):
    paths = [runs("workshop", "gru"), runs("shakespeare", "chars"), runs("best", "gru")]
    shown = show(*paths, **PHONE)
    tabs = shown.get_by_role("tab")
    assert tabs.all_inner_texts() == ["workshop-gru", "Text", "best-gru"]
    shown.keyboard.press("Tab")

    def selected() -> str:
        (one,) = shown.get_by_role("tab", selected=True).all_inner_texts()
        assert shown.locator(":focus").inner_text() == one
        assert shown.get_by_role("tabpanel").count() == 1
        assert shown.get_by_role("tabpanel", name=one).is_visible()
        return one

    assert selected() == "workshop-gru"
    for key, expected in [
        ("ArrowRight", "Text"),
        ("ArrowRight", "best-gru"),
        ("ArrowRight", "workshop-gru"),
        ("ArrowLeft", "best-gru"),
        ("Home", "workshop-gru"),
        ("End", "best-gru"),
    ]:
        shown.keyboard.press(key)
        assert selected() == expected
    # The tabs that are not shown are no stops.
    shown.keyboard.press("Tab")
    assert shown.locator(":focus").get_attribute("placeholder") == "Satoshi"
    outline = shown.locator(":focus").evaluate("e => getComputedStyle(e).outlineWidth")
    assert outline == "3px"
    shown.get_by_role("tab", name="Text").tap()
    assert shown.get_by_role("button", name="Write").is_visible()
    assert fits(shown)


def test_the_page_is_the_same_for_the_same_run(runs, tmp_path, capsys):
    paths = (runs("blog", "rnn"), runs("lab", "chars"))
    written = []
    for name in ("one.html", "other.html"):
        page.main(page.Config(paths, tmp_path / name))
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    assert f"{tmp_path / 'one.html'}: 0." in capsys.readouterr().out
    assert re.search(rb"https?://", written[0]) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "one.html",
        "other.html",
    ]


def test_no_text_of_a_run_is_read_as_html(runs, show, tmp_path):
    language = "</script><script>alert(1)</script>"
    classifier = trained.load_classifier(
        open_trained(runs("practical", "linear"), "names")
    )
    run = RunDirectory(shutil.copytree(runs("practical", "linear"), tmp_path / "run"))
    config = run.config
    config["languages"][0] = language
    (run.path / "config.json").write_text(json.dumps(config))
    run.write_params(classifier.model, classifier.params)
    shown = show(run.path)
    assert shown.locator(".label").first.inner_text() == language


def break_no_run(run):
    (run / "config.json").unlink()


def break_unfinished(run):
    (run / "params.safetensors").unlink()


def break_weights(run):
    path = run / "params.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def break_program(run):
    path = run / "config.json"
    path.write_text(path.read_text().replace('"names"', '"other"'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_no_run, r"is no run directory \(no config.json\)"),
        (break_unfinished, r"holds no trained model \(no params.safetensors\)"),
        (break_weights, "the SHA-256 of both is another"),
        (break_program, "is a run of other; expected one of names or charlm"),
    ],
)
def test_runs_that_cannot_be_used(damage, message, runs, tmp_path):
    run = shutil.copytree(runs("practical", "linear"), tmp_path / "run")
    damage(run)
    with pytest.raises(InputError, match=message):
        page.main(page.Config((run,), tmp_path / "page.html"))
    assert not (tmp_path / "page.html").exists()


def test_a_model_without_equations_in_the_page(runs, tmp_path, monkeypatch):
    known = tuple(kind for kind in page.RUNNABLE if kind is not models.JointClassifier)
    monkeypatch.setattr(page, "RUNNABLE", known)
    message = "a run of JointClassifier, .* it can compute practical rnn, practical gru"
    with pytest.raises(InputError, match=message):
        page.main(page.Config((runs("practical", "linear"),), tmp_path / "page.html"))


def test_every_model_has_equations():
    script = (page.WEB / "models.js").read_text()
    in_script = set(re.findall(r"^    (\w+)\(.*\) \{$", script, re.MULTILINE))
    assert in_script == {kind.__name__ for kind in page.RUNNABLE}


def test_weights_beyond_float16(tmp_path):
    arrays = {"a": np.array([1.0, 7e4], np.float32)}
    with pytest.raises(
        InputError, match="a weight of 7e.04, more than float16 can hold"
    ):
        page.tensors_of(arrays, "float16", tmp_path)


def test_where_no_page_can_be_written(runs, tmp_path):
    run = runs("practical", "linear")
    with pytest.raises(InputError, match="is a directory; expected a file for --out"):
        page.main(page.Config((run,), tmp_path))
    with pytest.raises(InputError, match="none is no directory; make it"):
        page.main(page.Config((run,), tmp_path / "none" / "page.html"))
    with pytest.raises(OSError) as refused:
        page.main(page.Config((run,), Path("/proc/page.html")))
    assert refused.value.filename == "/proc/page.html"
    with pytest.raises(InputError, match="--run is empty"):
        page.Config(())
    assert not list(tmp_path.iterdir())
