"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Theme: the reader's system decides until the button is pressed; the choice is kept where the browser lets it be.
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const theme = document.querySelector(".theme");
const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
function labelTheme() {
  const other = dark() ? "Light" : "Dark";
  theme.textContent = other;
  theme.setAttribute("aria-label", `${other} theme`);
}
try {
  const kept = localStorage.getItem("diffkit-theme");
  if (kept) root.dataset.theme = kept;
} catch { /* no storage for this page */ }
theme.hidden = false;
theme.addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  labelTheme();
  try { localStorage.setItem("diffkit-theme", root.dataset.theme); } catch { /* it holds for this visit */ }
});
system.addEventListener("change", labelTheme);
labelTheme();

// Tabs: the links of the navigation, one section at a time. Hidden text is still found by the browser's search.
const tabs = all("nav a");
const panels = tabs.map((tab) => document.querySelector(tab.hash));
function select(chosen, focus = false) {
  tabs.forEach((tab, number) => {
    const here = number === chosen;
    tab.setAttribute("aria-selected", here);
    tab.tabIndex = here ? 0 : -1;
    if (here) panels[number].removeAttribute("hidden");
    else panels[number].setAttribute("hidden", "until-found");
  });
  if (focus) tabs[chosen].focus();
}
function open(chosen, focus) {
  const nav = document.querySelector("nav");
  const away = nav.getBoundingClientRect().top <= 0;
  select(chosen, focus);
  history.replaceState(null, "", tabs[chosen].hash);
  if (away) scrollTo({ top: nav.parentElement.querySelector("main").offsetTop - nav.offsetHeight });
}
document.querySelector("nav > ul").setAttribute("role", "tablist");
tabs.forEach((tab, number) => {
  tab.parentElement.setAttribute("role", "presentation");
  tab.setAttribute("role", "tab");
  tab.id = `tab-${panels[number].id}`;
  tab.setAttribute("aria-controls", panels[number].id);
  panels[number].setAttribute("role", "tabpanel");
  panels[number].setAttribute("aria-labelledby", tab.id);
  panels[number].addEventListener("beforematch", () => select(number));
  tab.addEventListener("click", (event) => {
    event.preventDefault();
    open(number, true);
  });
  tab.addEventListener("keydown", (event) => {
    const last = tabs.length - 1;
    const to = {
      ArrowRight: number === last ? 0 : number + 1,
      ArrowLeft: number === 0 ? last : number - 1,
      Home: 0,
      End: last,
      " ": number,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    open(to, true);
  });
});
const asked = () => tabs.findIndex((tab) => tab.hash === location.hash);
addEventListener("hashchange", () => { if (asked() >= 0) select(asked()); });
select(Math.max(0, asked()));

// Details are open in the file, for a reader without JavaScript, and folded here; paper shows them all.
const folds = all("details");
for (const fold of folds) fold.open = "kept" in fold.dataset;
addEventListener("beforeprint", () => { for (const fold of folds) fold.open = true; });

// Pictures, enlarged.
const dialog = document.querySelector("dialog");
const stage = dialog.querySelector(".stage");
let shown, size, scale;
function rescale(next) {
  scale = Math.min(16, Math.max(0.125, next));
  shown.style.width = `${size.width * scale}px`;
  shown.classList.toggle("enlarged", scale > 1);
}
function fit() {
  const [width, height] = [stage.clientWidth - 32, stage.clientHeight - 32];
  rescale(Math.min(width / size.width, height / size.height));
}
function zoom(how) {
  if (how === "close") dialog.close();
  else if (how === "0") fit();
  else rescale(scale * Number(how));
}
for (const button of all(".zoom")) {
  button.addEventListener("click", () => {
    const picture = button.querySelector("img");
    size = { width: picture.naturalWidth, height: picture.naturalHeight };
    shown = picture.cloneNode();
    shown.className = button.classList.contains("plot") ? "plot" : "";
    stage.replaceChildren(shown);
    dialog.querySelector(".tools p").textContent = button.nextElementSibling.textContent;
    dialog.showModal();
    stage.focus();
    fit();
  });
}
for (const button of all("[data-zoom]", dialog)) {
  button.addEventListener("click", () => zoom(button.dataset.zoom));
}
dialog.addEventListener("keydown", (event) => {
  const how = { "+": "2", "=": "2", "-": "0.5", "0": "0" }[event.key];
  if (how) zoom(how);
});

// Films: frames stand under each other in one picture, of which a slider shows one.
for (const player of all(".player")) {
  const [picture, slider] = [player.querySelector(".film img"), player.querySelector("input")];
  const [output, play] = [player.querySelector("output"), player.querySelector(".play")];
  const captions = JSON.parse(player.dataset.captions);
  let timer;
  function show() {
    const frame = Number(slider.value);
    picture.style.transform = `translateY(${(-100 * frame) / captions.length}%)`;
    output.textContent = captions[frame];
    slider.setAttribute("aria-valuetext", `${captions[frame]}, frame ${frame + 1} of ${captions.length}`);
  }
  function stop() {
    clearInterval(timer);
    timer = undefined;
    play.textContent = "Play";
  }
  play.addEventListener("click", () => {
    if (timer !== undefined) return stop();
    if (slider.value === slider.max) slider.value = 0;
    show();
    play.textContent = "Pause";
    timer = setInterval(() => {
      slider.stepUp();
      show();
      if (slider.value === slider.max) stop();
    }, 140);
  });
  slider.addEventListener("input", () => { stop(); show(); });
  player.hidden = false;
  show();
}

// The matrix: the cell under the pointer or the focus says why it is as it is.
for (const matrix of all(".matrix")) {
  const why = matrix.closest("section").querySelector(".why");
  const cells = all(".cell", matrix);
  const columns = matrix.rows[0].cells.length - 1;
  const chosen = Math.max(0, cells.findIndex((cell) => cell.classList.contains("chosen")));
  function tell(cell) {
    const { pair, status, reason, remedy } = cell.dataset;
    const words = [`${pair}: ${status}`, reason || "Nothing speaks against it.", remedy];
    why.replaceChildren(...words.filter(Boolean).map((text, line) => {
      const paragraph = document.createElement("p");
      paragraph.textContent = text;
      paragraph.className = line === 0 ? `status ${status}` : "soft";
      return paragraph;
    }));
  }
  cells.forEach((cell, number) => {
    cell.tabIndex = number === chosen ? 0 : -1;
    for (const event of ["pointerenter", "focus", "click"]) cell.addEventListener(event, () => tell(cell));
    cell.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
      const next = cells[number + by];
      if (!next) return;
      event.preventDefault();
      for (const other of cells) other.tabIndex = other === next ? 0 : -1;
      next.focus();
    });
  });
  why.hidden = false;
  tell(cells[chosen]);
}

for (const button of all(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = button.parentElement.querySelector("code");
    const status = document.querySelector(".copied");
    try {
      await navigator.clipboard.writeText(source.textContent);
      status.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(source);
      status.textContent = "Selected: copy it with the keyboard.";
    }
  });
}
