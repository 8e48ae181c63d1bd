// The panel of a names run: type a name, see what each letter does.

/**
 * What a classifier makes of a name: {spelling, probs, answer, attention, changes}, or
 * {error}.
 */
function ask(run, name) {
    const text = oneSpace(name);
    if (text === "") return { error: "" };
    if (Array.from(text).length > run.longest_text)
        return { error: `A name has at most ${run.longest_text} characters here.` };
    const spelling = run.strips_accents
        ? stripAccents(text, run.alphabet)
        : respell(text, run.alphabet);
    if (spelling.trim() === "")
        return { error: "No letter that the model knows; expected Latin script." };
    const letters = Array.from(spelling);
    if (run.longest !== null && letters.length > run.longest)
        return { error: `This model takes names of at most ${run.longest} letters.` };
    const alphabet = Array.from(run.alphabet);
    const tokens = letters.map((letter) => alphabet.indexOf(letter));
    const { logits, attention } = MODELS[run.type](run.model, tokens);
    const probs = softmax(logits.at(-1));
    const answer = probs.indexOf(Math.max(...probs));
    return { spelling, probs, answer, attention, changes: changes(logits, answer) };
}

/** How much every letter changes the probability of the answer. */
function changes(logits, answer) {
    const course = logits.map((each) => softmax(each)[answer]);
    return course.slice(1).map((prob, t) => prob - course[t]);
}

/** Every letter with its colour and number under it. */
function drawLetters(list, { spelling, attention, changes }) {
    const letters = Array.from(spelling).map((letter, t) => {
        const value = attention ? attention[t] : changes[t];
        const colour = element("span", value < 0 ? "colour less" : "colour");
        colour.append(element("span", "fill"));
        colour.firstChild.style.opacity = Math.abs(value);
        const points = Math.round(100 * value);
        const number = attention ? `${points}` : `${points > 0 ? "+" : ""}${points}`;
        return element(
            "li",
            "",
            element("span", "letter", letter === " " ? "␣" : letter),
            colour,
            element("span", "number", number.replace("-", "−")),
        );
    });
    list.replaceChildren(...letters);
}

/** What the colours mean, for this model and this answer. */
function legendOf({ attention }, language) {
    if (attention)
        return "Under each letter: the attention that the network pays it, in percent.";
    return (
        `Under each letter: what it changed in the probability of ${language}, in ` +
        "percentage points; blue is more, orange is less."
    );
}

/** The likeliest languages, in a line. */
function inWords(labels, probs) {
    const order = probs.map((_, i) => i).sort((a, b) => probs[b] - probs[a]);
    return order
        .slice(0, 3)
        .map((i) => `${labels[i]} ${percent(probs[i])}`)
        .join(", ");
}

function namesPanel(panel, run) {
    const find = (selector) => panel.querySelector(selector);
    const announce = announcer(find("[role=status]"));
    const input = find("input");

    function update() {
        const found = ask(run, input.value);
        const known = found.error === undefined;
        const typed = oneSpace(input.value);
        find(".error").textContent = found.error ?? "";
        find(".answer").textContent = known
            ? `${run.labels[found.answer]} ${percent(found.probs[found.answer])}`
            : "";
        find(".spelling").textContent =
            known && found.spelling !== typed ? `read as ${found.spelling}` : "";
        find(".letters").hidden = !known;
        drawBars(find(".bars"), run.labels, found.probs);
        if (known) {
            drawLetters(find(".letters ol"), found);
            find(".key").classList.toggle("both", !found.attention);
            find(".meaning").textContent = legendOf(found, run.labels[found.answer]);
        }
        announce(known ? inWords(run.labels, found.probs) : found.error);
    }

    input.addEventListener("input", update);
    update();
}
