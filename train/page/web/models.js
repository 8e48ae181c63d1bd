// The models, each a few equations; they have the names that they have in rnnjax.
//
// A classifier is called with its weights and sizes and with the tokens of a name. It
// returns the logits after every letter, before the first one included, and, where
// there is attention, the attention instead: then only the logits of the whole name.

const MODELS = {
    /** A hand-made cell, then the class from the last state. */
    JointClassifier({ weights, activation, hidden_size, vocab_size }, tokens) {
        const answer = (h) => linear(weights, "h2o", h);
        let h = zeros(hidden_size);
        const logits = [answer(h)];
        for (const token of tokens) {
            const x = oneHot(token, vocab_size);
            h = linear(weights, "i2h", concat(x, h)).map(ACTIVATIONS[activation]);
            logits.push(answer(h));
        }
        return { logits };
    },

    /** Layers of torch.nn, then the class from the last state. */
    StackClassifier(model, tokens) {
        const { weights, kind, head, hidden_size, num_layers, vocab_size } = model;
        const answer = (carries) => linear(weights, head, carries.at(-1).h);
        let carries = Array.from({ length: num_layers }, () => zeroCarry(hidden_size));
        const logits = [answer(carries)];
        for (const token of tokens) {
            carries = stepThrough(weights, kind, carries, oneHot(token, vocab_size));
            logits.push(answer(carries));
        }
        return { logits };
    },

    /** A GRU, then the class from the mean of the states that attention makes. */
    AttentionClassifier({ weights, hidden_size, vocab_size }, tokens) {
        const xs = tokens.map((token) => oneHot(token, vocab_size));
        const states = statesOf(weights, "gru", "l0", hidden_size, xs);
        const { attention, mean } = attend(weights, states);
        return { logits: [linear(weights, "h2o", mean)], attention };
    },

    /** The class from the last character and the state before it. */
    PreviousStateClassifier({ weights, vocab_size }, tokens) {
        let h = weights.start.data;
        const nothing = oneHot(undefined, vocab_size);
        const logits = [linear(weights, "in2output", concat(nothing, h))];
        for (const token of tokens) {
            const joined = concat(oneHot(token, vocab_size), h);
            logits.push(linear(weights, "in2output", joined));
            h = linear(weights, "in2hidden", joined).map(sigmoid);
        }
        return { logits };
    },

    /** Three linear maps of the whole padded name. */
    MLPClassifier(model, tokens) {
        const { weights } = model;
        return forEveryPrefix(model, tokens, (xs) => {
            const x = linear(weights, "mlp.0", concat(...xs)).map(relu);
            return linear(weights, "mlp.4", linear(weights, "mlp.2", x).map(relu));
        });
    },

    /** tanh(Wx x) + tanh(Wh h), then the class from all states of the padded name. */
    AllStatesClassifier(model, tokens) {
        const { weights, hidden_size } = model;
        return forEveryPrefix(model, tokens, (xs) => {
            let h = zeros(hidden_size);
            const states = xs.map((x) => {
                const ih = linear(weights, "Wx", x).map(Math.tanh);
                const hh = linear(weights, "Wh", h).map(Math.tanh);
                return (h = add(ih, hh));
            });
            const y = linear(weights, "Wy", concat(...states)).map(relu);
            return linear(weights, "output_layer", y);
        });
    },

    /** Layers of torch.nn.RNN, then the class from all states of the padded name. */
    DropoutClassifier(model, tokens) {
        const { weights, hidden_size, num_layers } = model;
        return forEveryPrefix(model, tokens, (xs) => {
            for (let layer = 0; layer < num_layers; layer++)
                xs = statesOf(weights, "rnn", `l${layer}`, hidden_size, xs);
            const y = linear(weights, "linear_layer", concat(...xs)).map(relu);
            return linear(weights, "output_layer", y);
        });
    },

    /** Letters with their neighbours, a GRU in both directions, three summaries. */
    BidirectionalClassifier({ weights, hidden_size, vocab_size }, tokens) {
        const letter = (t) => oneHot(tokens[t], vocab_size);
        const xs = tokens.map((_, t) => {
            const window = concat(letter(t - 1), letter(t), letter(t + 1));
            return linear(weights, "window", window).map(relu);
        });
        const run = (layer, inputs) =>
            statesOf(weights, "gru", layer, hidden_size, inputs);
        const forward = run("l0", xs);
        const backward = run("l0_reverse", [...xs].reverse()).reverse();
        const states = forward.map((h, t) => concat(h, backward[t]));
        const { attention, mean } = attend(weights, states);
        const highest = states.reduce((a, b) => a.map((x, i) => Math.max(x, b[i])));
        const summary = concat(forward.at(-1), backward[0], mean, highest);
        return { logits: [linear(weights, "fc", summary)], attention };
    },

    /** The carry after one more character, and the logits of the next. */
    CharLM({ weights, kind, mlp_size, vocab_size }, carries, token) {
        carries = stepThrough(weights, kind, carries, oneHot(token, vocab_size));
        const { h } = carries.at(-1);
        const logits =
            mlp_size === null
                ? linear(weights, "h2o", h)
                : linear(weights, "mlp.3", linear(weights, "mlp.0", h).map(relu));
        return { carries, logits };
    },
};

/** The logits of every prefix of a name, padded with zero vectors to max_length. */
function forEveryPrefix({ max_length, vocab_size }, tokens, logitsOf) {
    const logits = [];
    for (let length = 0; length <= tokens.length; length++) {
        const letter = (_, t) => oneHot(t < length ? tokens[t] : undefined, vocab_size);
        logits.push(logitsOf(Array.from({ length: max_length }, letter)));
    }
    return { logits };
}
