// Pieces that both kinds of panel are drawn with.

/** An element with a class and children; text is never read as HTML. */
function element(tag, className, ...children) {
    const made = document.createElement(tag);
    made.className = className;
    made.append(...children);
    return made;
}

/** 0.0312 as "3.1 %". */
function percent(share) {
    if (share > 0 && share < 0.001) return "< 0.1\u00a0%";
    return `${(100 * share).toFixed(1)}\u00a0%`;
}

/**
 * One bar for each label, in place: a bar that is there already changes its length.
 * Without probabilities the bars are empty.
 */
function drawBars(list, labels, probs) {
    while (list.children.length > labels.length) list.lastChild.remove();
    while (list.children.length < labels.length) {
        const track = element("span", "track", element("span", "bar"));
        const [label, share] = [element("span", "label"), element("span", "share")];
        list.append(element("li", "", label, track, share));
    }
    const first = probs ? probs.indexOf(Math.max(...probs)) : -1;
    labels.forEach((label, i) => {
        const [name, track, share] = list.children[i].children;
        name.textContent = label;
        share.textContent = probs ? percent(probs[i]) : "";
        track.firstChild.style.width = probs ? `${100 * probs[i]}%` : 0;
        list.children[i].classList.toggle("first", i === first);
    });
}

/** Say it to a screen reader once nothing has changed for a moment. */
function announcer(region) {
    let waiting;
    return (message) => {
        clearTimeout(waiting);
        waiting = setTimeout(() => (region.textContent = message), 500);
    };
}
