// One tab for each run; a panel is made when its tab is first shown.

const PANELS = { names: namesPanel, charlm: textPanel };

function addRun(run, index) {
    const tab = element("button", "", run.title);
    tab.id = `tab-${index}`;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", `panel-${index}`);
    const panel = element("section", "");
    panel.id = `panel-${index}`;
    panel.append(document.getElementById(run.program).content.cloneNode(true));
    panel.querySelector(".about").textContent = run.about;
    if (RUNS.length > 1) {
        panel.setAttribute("role", "tabpanel");
        panel.setAttribute("aria-labelledby", tab.id);
    }
    document.querySelector("[role=tablist]").append(tab);
    document.querySelector(".panels").append(panel);
    return { run, tab, panel, isReady: false };
}

function show(shown, all) {
    for (const { tab, panel } of all) {
        const isShown = panel === shown.panel;
        panel.hidden = !isShown;
        tab.setAttribute("aria-selected", isShown);
        // Tab goes to the tab that is shown, arrows go from one to the next.
        tab.tabIndex = isShown ? 0 : -1;
    }
    if (shown.isReady) return;
    shown.isReady = true;
    shown.run.model.weights = readWeights(shown.run.weights);
    PANELS[shown.run.program](shown.panel, shown.run);
}

function start() {
    const all = RUNS.map(addRun);
    const tabs = document.querySelector("[role=tablist]");
    tabs.hidden = all.length === 1;
    all.forEach((each) => each.tab.addEventListener("click", () => show(each, all)));
    tabs.addEventListener("keydown", (event) => {
        const last = all.length - 1;
        const here = all.findIndex(({ tab }) => tab === document.activeElement);
        const there = {
            ArrowLeft: here === 0 ? last : here - 1,
            ArrowRight: here === last ? 0 : here + 1,
            Home: 0,
            End: last,
        }[event.key];
        if (there === undefined) return;
        event.preventDefault();
        show(all[there], all);
        all[there].tab.focus();
    });
    show(all[0], all);
}

start();
