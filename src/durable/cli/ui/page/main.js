// The page as a whole: filters, keys, the address, the colours, and looking for changes.

import { Refusal, get } from "./api.js";
import { h, icon } from "./dom.js";
import { filters, firstPage, state } from "./first.js";
import { RunList } from "./list.js";
import { RunView } from "./run.js";

const POLL_MS = 500;
const STALE_MS = 10_000; // "retry in 5s" is told anew so often, though nothing has changed
const TYPING_MS = 150;
const THEMES = ["auto", "light", "dark"];
const AGES = [
  ["", "any time"],
  ["300", "last 5 minutes"],
  ["3600", "last hour"],
  ["86400", "last 24 hours"],
  ["604800", "last 7 days"],
  ["2592000", "last 30 days"],
  ["range", "between…"],
];
const FIELDS = ["text", "workflow", "age", "since", "before"];

const $ = (id) => document.getElementById(id);

const list = new RunList($("list"), {
  onChoose: (id, entered) => go({ run: id, step: null }, entered),
  onNewer: (there) => ($("newer").hidden = !there),
});
const view = new RunView($("run"), {
  onOpen: (id) => go({ run: id, step: null }, true),
  onStep: (key) => go({ step: key }, true),
  onBack: () => leaveRun(),
});

// -- the address says what is shown -------------------------------------------------------------------------------------

/** Change what the address says, and show it. `entered`: keys move among the steps of the run from now on. */
function go(changes, entered = document.body.classList.contains("entered")) {
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === "") state.delete(key);
    else state.set(key, value);
  }
  const isNew = changes.run !== undefined && entered;
  history[isNew ? "pushState" : "replaceState"](null, "", `#${state}`);
  showRun(entered);
}

function showRun(entered) {
  const id = state.get("run");
  document.body.classList.toggle("entered", Boolean(entered && id !== null));
  document.title = id === null ? "durable" : `${id} · durable`;
  list.mark(id);
  return told(view.open(id, state.get("step")));
}

function leaveRun() {
  go({ step: null }, false);
}

addEventListener("popstate", () => {
  const found = new URLSearchParams(location.hash.slice(1));
  for (const key of [...state.keys()]) state.delete(key);
  for (const [key, value] of found) state.set(key, value);
  writeFilters();
  search();
  showRun(state.has("run"));
});

// -- filters ------------------------------------------------------------------------------------------------------------

function search() {
  told(list.restart(filters()));
  drawCounts();
  told(count());
}

let counted = { statuses: [], counts: {} };

async function count() {
  const { since, before } = filters();
  const found = await get("counts", { since, before });
  $("path").textContent = found.path;
  $("path").title = found.path;
  $("owner").replaceChildren(h(`span.dot${found.live_pid ? ".live" : ""}`), found.live_pid ? `process ${found.live_pid} runs` : "nobody runs it");
  counted = found;
  drawCounts();
}

/** Menu and chips with their numbers, each as the other one limits them. They say nothing of a text. */
function drawCounts() {
  const { statuses, counts } = counted;
  const [workflow, status] = [state.get("workflow") ?? "", state.get("status") ?? ""];
  drawWorkflows(Object.entries(counts).map(([name, numbers]) => [name, status ? (numbers[status] ?? 0) : sum(numbers)]));
  const numbers = {};
  for (const [name, found] of Object.entries(counts)) {
    if (workflow && name !== workflow) continue;
    for (const [key, number] of Object.entries(found)) numbers[key] = (numbers[key] ?? 0) + number;
  }
  drawStatuses(statuses, numbers);
}

const sum = (numbers) => Object.values(numbers).reduce((total, number) => total + number, 0);

function drawWorkflows(names) {
  const chosen = state.get("workflow") ?? "";
  const wanted = JSON.stringify([names, chosen]);
  if ($("workflow").dataset.drawn === wanted) return; // an open menu stays open
  $("workflow").dataset.drawn = wanted;
  const all = chosen && !names.some(([name]) => name === chosen) ? [...names, [chosen, 0]] : names;
  $("workflow").replaceChildren(
    h("option", { value: "" }, "all workflows"),
    ...all.map(([name, number]) => h("option", { value: name, selected: name === chosen }, `${name}  (${number.toLocaleString("en")})`)),
  );
}

function drawStatuses(statuses, numbers) {
  const chosen = state.get("status") ?? "";
  const chip = (status, name, number) =>
    h(
      `button.chip${status === chosen ? ".on" : ""}`,
      {
        type: "button",
        "aria-pressed": String(status === chosen),
        click: () => {
          go({ status: status === chosen ? "" : status });
          search();
        },
      },
      status ? icon(status) : null,
      name,
      h("b", {}, number.toLocaleString("en")),
    );
  const shown = statuses.filter((status) => numbers[status] || status === chosen);
  $("statuses").replaceChildren(
    chip("", "all", sum(numbers)),
    ...shown.map((status) => chip(status, status, numbers[status] ?? 0)),
  );
}

function writeFilters() {
  for (const name of FIELDS) $(name).value = state.get(name) ?? "";
  $("range").hidden = state.get("age") !== "range";
}

let typing;
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("input", ({ target }) => target.id === "text" && filter(target));
$("filters").addEventListener("change", ({ target }) => target.id !== "text" && filter(target));

function filter(target) {
  clearTimeout(typing);
  go({ [target.id]: target.value });
  $("range").hidden = state.get("age") !== "range";
  typing = setTimeout(search, target.id === "text" ? TYPING_MS : 0);
}
$("newer").addEventListener("click", () => {
  list.element.scrollTop = 0;
  told(list.refresh());
});

// -- keys ---------------------------------------------------------------------------------------------------------------

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  g: () => move(-Infinity),
  G: () => move(Infinity),
  Enter: () => (document.body.classList.contains("entered") ? view.toggle() : state.has("run") && enter()),
  Escape: () => escape(),
  "/": () => $("text").focus(),
  "?": () => $("keys").showModal(),
};

addEventListener("keydown", (event) => {
  const typed = event.target.closest("input, select, textarea, dialog, form.signal");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typed && event.key === "Escape" && !$("keys").open) {
    if (event.target.id === "text" && event.target.value) {
      event.target.value = "";
      event.target.dispatchEvent(new Event("input", { bubbles: true }));
    }
    event.target.blur();
  } else if (typed && event.key === "Enter" && event.target.id === "text") {
    event.target.blur();
    told(findNow());
  } else if (!typed && KEYS[event.key]) {
    if (event.key === "Enter" && event.target.closest("button, a, summary")) {
      if (!event.target.closest("#list")) return; // what has the focus is pressed
    }
    KEYS[event.key]();
  } else {
    return;
  }
  event.preventDefault();
});

/** Search at once, and choose the newest run that is found. */
async function findNow() {
  clearTimeout(typing);
  await list.restart(filters());
  list.move(-Infinity);
}

function move(by) {
  if (document.body.classList.contains("entered")) view.move(by);
  else list.move(by);
}

function enter() {
  go({}, true);
  if (view.timeline.chosen === null) view.move(1);
}

function escape() {
  if (state.has("step")) go({ step: null });
  else if (document.body.classList.contains("entered")) leaveRun();
  else if (state.get("text")) {
    $("text").value = "";
    go({ text: "" });
    search();
  } else go({ run: null });
}

$("help").addEventListener("click", () => $("keys").showModal());
$("keys").querySelector("button").addEventListener("click", (event) => {
  event.preventDefault();
  $("keys").close();
});

// -- colours ------------------------------------------------------------------------------------------------------------

function showTheme() {
  const theme = localStorage.getItem("theme") ?? "auto";
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = { auto: "Auto", light: "Light", dark: "Dark" }[theme];
}

$("theme").addEventListener("click", () => {
  const theme = localStorage.getItem("theme") ?? "auto";
  localStorage.setItem("theme", THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
  showTheme();
});

// -- live ---------------------------------------------------------------------------------------------------------------

/** Say what keeps the page from showing the journal, until it does again. */
async function told(work) {
  try {
    await work;
    $("trouble").hidden = true;
  } catch (error) {
    if (!(error instanceof Refusal)) console.error(error);
    $("trouble").textContent = error.message;
    $("trouble").hidden = false;
  }
}

let seen = null;
let drawnAt = 0;
let countIsDue = false;
let countedAt = 0;
let counting = 0; // milliseconds that the last count took: it is not done again before twenty times that

async function poll() {
  if (!document.hidden) await told(look());
  setTimeout(poll, POLL_MS);
}

/** Read again what is shown, where the journal has changed, or where times in words have grown old. */
async function look() {
  const { changes } = await get("changes");
  const isStale = performance.now() - drawnAt > STALE_MS;
  if (changes !== seen || isStale) {
    seen = changes;
    drawnAt = performance.now();
    countIsDue = true;
    await Promise.all([list.refresh(), view.refresh()]);
  }
  const begun = performance.now();
  if (countIsDue && begun - countedAt > counting * 20) {
    countIsDue = false;
    await count();
    countedAt = performance.now();
    counting = countedAt - begun;
  }
}

showTheme();
$("age").replaceChildren(...AGES.map(([value, name]) => h("option", { value }, name)));
writeFilters();
told(list.restart(filters(), firstPage)).then(poll); // the list comes first: counts take longer
showRun(state.has("run") && innerWidth < 900);
