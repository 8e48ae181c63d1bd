// The panel of a charlm run: it goes on from a prompt, one character a frame.

/** Characters that are written before it stops by itself. */
const AT_ONCE = 500;

/** Milliseconds after which a long prompt lets the page breathe. */
const PATIENCE = 50;

const NAMES_OF_CHARACTERS = { " ": "space", "\n": "new line", "\t": "tab" };

/** A character as a word or a number if it cannot be seen. */
function nameOf(character) {
    if (!/[\p{C}\p{Z}]/u.test(character)) return character;
    const number = character.codePointAt(0).toString(16).toUpperCase();
    return NAMES_OF_CHARACTERS[character] ?? `U+${number.padStart(4, "0")}`;
}

/** Text to tokens and back; without an alphabet tokens are the bytes of UTF-8. */
function codecOf({ alphabet, line_end }) {
    if (alphabet === null) {
        const decoder = new TextDecoder();
        return {
            unknown: () => [],
            encode: (text) => Array.from(new TextEncoder().encode(text)),
            decode: (token) => decoder.decode(Uint8Array.of(token), { stream: true }),
            name: (token) =>
                token < 128 ? nameOf(String.fromCharCode(token)) : `byte ${token}`,
        };
    }
    const characters = Array.from(alphabet);
    const decode = (token) => characters[token].replace(line_end, "\n");
    return {
        unknown(text) {
            const all = new Set(text.replaceAll("\n", line_end));
            return Array.from(all).filter((c) => !characters.includes(c));
        },
        encode(text) {
            const spelling = respell(text.replaceAll("\n", line_end), alphabet);
            return Array.from(spelling, (c) => characters.indexOf(c));
        },
        decode,
        name: (token) => nameOf(decode(token)),
    };
}

/** Probabilities of the next token; at temperature 0 the likeliest has all of it. */
function nextProbs(logits, temperature) {
    if (temperature > 0) return softmax(logits.map((logit) => logit / temperature));
    const likeliest = logits.indexOf(Math.max(...logits));
    return Array.from(logits, (_, token) => (token === likeliest ? 1 : 0));
}

/** A token, drawn by the probabilities. */
function draw(probs) {
    let left = Math.random();
    const token = probs.findIndex((prob) => (left -= prob) < 0);
    // Rounding may leave a little over.
    return token < 0 ? probs.indexOf(Math.max(...probs)) : token;
}

/** What a person should know of a prompt's characters. */
function remarkOn(unknown, tokens) {
    if (tokens.length === 0) return "No character that the model knows.";
    if (unknown.length === 0) return "";
    const some = unknown.slice(0, 20).map(nameOf).join(" ");
    return `Not known to the model: ${some}; written without an accent, or left out.`;
}

const nextFrame = () => new Promise(requestAnimationFrame);

function textPanel(panel, run) {
    const find = (selector) => panel.querySelector(selector);
    const [prompt, slider] = [find("textarea"), find("[type=range]")];
    const [writeButton, oneButton] = [find(".write"), find(".one")];
    const [written, status] = [find(".written"), find("[role=status]")];
    const { model } = run;
    // What is written so far has led to {carries, logits}; null while it is read.
    let point = null;
    let codec;
    // Characters still to be written.
    let left = 0;
    // What reads or writes ends when it is another's turn.
    let turn = 0;

    function setPoint(newPoint) {
        point = newPoint;
        writeButton.disabled = oneButton.disabled = point === null;
        showNext();
    }

    /** The characters that may come next, likeliest first. */
    function showNext() {
        const probs = point ? nextProbs(point.logits, Number(slider.value)) : [];
        const order = probs.map((_, token) => token);
        order.sort((a, b) => point.logits[b] - point.logits[a]);
        const tokens = order.slice(0, 8);
        drawBars(
            find(".bars"),
            tokens.map((token) => codec.name(token)),
            tokens.map((token) => probs[token]),
        );
    }

    /** Forget what was written, and read the prompt. */
    async function begin() {
        const mine = ++turn;
        writeButton.textContent = "Write";
        // A decoder of bytes may hold half a character.
        codec = codecOf(run);
        written.replaceChildren(element("span", "prompt", prompt.value), "");
        setPoint(null);
        // Without a prompt a text begins like a line, as in train.sample.
        const text = prompt.value || "\n";
        const tokens = codec.encode(text);
        status.textContent = remarkOn(codec.unknown(text), tokens);
        let carries = Array.from({ length: model.num_layers }, () =>
            zeroCarry(model.hidden_size),
        );
        let logits = null;
        let pause = performance.now() + PATIENCE;
        for (const token of tokens) {
            ({ carries, logits } = MODELS.CharLM(model, carries, token));
            if (performance.now() < pause) continue;
            await nextFrame();
            if (turn !== mine) return;
            pause = performance.now() + PATIENCE;
        }
        if (logits) setPoint({ carries, logits });
    }

    async function write(count) {
        const mine = ++turn;
        writeButton.textContent = "Stop";
        status.textContent = "Writing.";
        let done = 0;
        for (left = count; left > 0; left--) {
            const token = draw(nextProbs(point.logits, Number(slider.value)));
            written.lastChild.data += codec.decode(token);
            written.scrollTop = written.scrollHeight;
            setPoint(MODELS.CharLM(model, point.carries, token));
            done++;
            if (left > 1) await nextFrame();
            if (turn !== mine) return;
        }
        writeButton.textContent = "Write";
        const characters = done === 1 ? "character" : "characters";
        status.textContent = `${done} ${characters} written.`;
    }

    const stop = () => (left = 0);

    prompt.addEventListener("input", begin);
    slider.addEventListener("input", () => {
        find(".value").textContent = Number(slider.value).toFixed(2);
        showNext();
    });
    writeButton.addEventListener("click", () =>
        writeButton.textContent === "Stop" ? stop() : write(AT_ONCE),
    );
    oneButton.addEventListener("click", () => write(1));
    find(".again").addEventListener("click", begin);
    panel.addEventListener("keydown", ({ key }) => {
        if (key === "Escape") stop();
    });
    begin();
}
