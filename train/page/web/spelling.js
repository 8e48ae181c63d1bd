// Text in the characters that a model knows, as the Python programs spell it.

/** Latin text in ASCII; SPELLINGS has what Unicode does not take apart. */
function transliterate(text) {
    const spelled = Array.from(text, (c) => SPELLINGS[c] ?? c).join("");
    return spelled.normalize("NFKD").replace(/\p{Mn}/gu, "");
}

const only = (text, known) => Array.from(text).filter((c) => known.has(c)).join("");

/** Accents stripped, then what is not in the alphabet left out. */
function stripAccents(text, alphabet) {
    return only(text.normalize("NFD"), new Set(alphabet));
}

/** Unknown characters without their accent if that is known, else left out. */
function respell(text, alphabet) {
    const known = new Set(alphabet);
    const spell = (c) => (known.has(c) ? c : only(transliterate(c), known));
    return Array.from(text, spell).join("");
}

/** Words with one space between them, as " ".join(text.split()) makes in Python. */
function oneSpace(text) {
    // Besides Unicode's spaces Python takes four control characters for spaces.
    return text.split(/[\p{White_Space}\x1c-\x1f]+/u).filter(Boolean).join(" ");
}
