// The talk of the page: what was said, streaming, stop, edit, keeping. What is not kept is in this page alone.
import { announce, clearVoice, drawMood } from "./mood.js";
import { changeSettings, token } from "./page.js";

const $ = (id) => document.getElementById(id);
const words = JSON.parse($("words").dataset.all);
const layout = $("layout"), talk = $("talk"), text = $("text"), status = $("status"), keep = $("keep");
const CARRIED = "pege-carried"; // a talk on its way through a change of language; gone at once
const narrow = matchMedia("(max-width: 62rem)");

let said = []; // {content, shown}, the user's at even places
let key = null, version = 0, controller = null;
let hadCrisis = false; // of this dialog, whatever is edited away: guidance stays off

function say(message, isWarning = false) {
  status.textContent = message;
  status.classList.toggle("warn", isWarning);
}

async function post(path, body, signal) {
  return fetch(path, {
    method: "POST", signal, headers: { "content-type": "application/json", "x-csrf-token": token }, body: JSON.stringify(body),
  });
}

const state = () => ({ said, key, version, keep: keep.checked, had_crisis: hadCrisis });

// ---- what is seen

function lineOf(place) {
  const role = place % 2 ? "agent" : "user";
  const line = $(`new-${role}`).content.firstElementChild.cloneNode(true);
  fill(line, said[place]);
  return line;
}

function fill(line, one) {
  line.querySelector(".text").textContent = one.content;
  line.classList.remove("crisis", "refused", "stopped");
  if (one.shown.kind) line.classList.add(one.shown.kind);
}

function redraw(from = 0) {
  while (talk.children.length > from) talk.lastElementChild.remove();
  for (let k = from; k < said.length; k++) talk.append(lineOf(k));
  refresh();
}

function refresh() {
  $("welcome").hidden = said.length > 0;
  $("answer").hidden = said.length % 2 === 0 || controller !== null;
  $("send").hidden = controller !== null;
  $("stop").hidden = controller === null;
  layout.classList.toggle("busy", controller !== null);
  $("kept").textContent = keep.checked && key ? words.kept_on : keep.checked ? "" : words.kept_off;
  drawMood(said, words, hadCrisis);
}

function follow() { // to the end, or to the beginning of a last utterance that is longer than the window
  const box = $("scroll"), last = talk.lastElementChild;
  if (last && last.offsetHeight > box.clientHeight) box.scrollTop = last.offsetTop - talk.offsetTop;
  else box.scrollTop = box.scrollHeight;
}

// ---- a response

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const [name, data] = rest.slice(0, end).split("\n");
      rest = rest.slice(end + 2);
      yield [name.slice(7), JSON.parse(data.slice(6))];
    }
  }
}

function isKept(found) {
  if (!key) history.replaceState(null, "", `/dialog/${found.key}`);
  ({ key, version } = found);
  document.title = `${found.name} – pege`;
  htmx.trigger("#list", "kept");
}

function isUnkept(why) {
  if (why === "deleted") forget();
  if (why !== "gone") keep.checked = false;
  return words[`unkept_${why}`];
}

function forget() {
  key = null;
  version = 0;
  history.replaceState(null, "", "/");
}

async function ask() {
  if (said.length > Number(layout.dataset.maxMessages)) return say(words.too_long, true);
  controller = new AbortController();
  const line = $("new-agent").content.firstElementChild.cloneNode(true), place = said.length;
  line.classList.add("writing");
  talk.append(line);
  let given = "", isDone = false, warning = "";
  clearVoice();
  say(words.thinking);
  refresh();
  follow();
  try {
    const answered = await post("/respond", state(), controller.signal);
    if (!answered.ok) throw new Error(answered.status === 422 ? "too_long" : (await answered.json()).why);
    for await (const [name, found] of events(answered.body)) {
      if (name === "kept") isKept(found);
      else if (name === "unkept") warning = isUnkept(found.why);
      else if (name === "failed") throw new Error(found.why);
      else if (name === "piece") {
        given += found.text;
        line.querySelector(".text").textContent = given;
        announce(given);
        follow();
      } else if (name === "crisis") hadCrisis = true;
      else if (name === "done") {
        isDone = true;
        said.push({ content: found.text, shown: {} });
        found.shown.forEach((shown, k) => { said[k].shown = shown; });
        announce(found.text, true);
      }
    }
    if (!isDone) throw new Error("lost");
    say(warning || words.done, warning !== "");
  } catch (error) {
    const isStopped = error.name === "AbortError";
    if (!isDone && given.trim()) said.push({ content: given, shown: { kind: "stopped" } });
    say(isStopped ? words.stopped : words[{ refused: "forged", slow_down: "busy" }[error.message] || error.message] || words.lost, !isStopped);
    if (given.trim() && key && error.message !== "newer") await keepNow();
  }
  controller = null;
  redraw(place);
  follow();
}

async function keepNow() {
  try {
    const answered = await post("/keep", state());
    const found = await answered.json();
    if (found.event === "kept") isKept(found);
    else if (found.why === "newer") location.reload(); // the response was whole when it was stopped: the server has it
    else say(isUnkept(found.why) || words.lost, true);
    return found.event === "kept";
  } catch {
    say(words.lost, true);
    return false;
  }
}

async function send(content) {
  if (controller || !content.trim()) return say(words.sent_nothing);
  if (said.length % 2) said.pop(); // an utterance that nobody has answered is said anew
  const from = said.length;
  said.push({ content: content.toWellFormed().replaceAll("\0", ""), shown: {} });
  redraw(from);
  await ask();
}

// ---- the person's hands

$("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (controller) return;
  const open = said.length % 2 ? said.at(-1).content : "";
  const content = open && text.value.trim() ? `${open}\n${text.value}` : text.value;
  if (!content.trim()) return say(words.sent_nothing);
  text.value = "";
  await send(content);
});
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return; // an input method takes Enter
  event.preventDefault();
  $("say").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (controller) stop();
  else for (const panel of document.querySelectorAll(".side.open, .mood.open")) toggle(panel, false);
});
function stop() {
  controller.abort();
  text.focus();
}
$("stop").addEventListener("click", stop);
$("answer").addEventListener("click", () => { text.focus(); ask(); });
for (const start of document.querySelectorAll("[data-start]"))
  start.addEventListener("click", () => { text.value = start.textContent; text.focus(); });

talk.addEventListener("click", (event) => {
  const line = event.target.closest(".line"), place = [...talk.children].indexOf(line);
  if (controller) return;
  if (event.target.closest("[data-again]")) {
    said.length = place;
    redraw(place);
    text.focus();
    ask();
  } else if (event.target.closest("[data-edit]")) edit(line, place);
});

function edit(line, place) {
  const form = $("new-edit").content.firstElementChild.cloneNode(true), box = form.querySelector("textarea");
  box.value = said[place].content;
  line.querySelector(".bubble").hidden = line.querySelector(".acts").hidden = true;
  line.append(form);
  box.focus();
  const leave = () => {
    form.remove();
    line.querySelector(".bubble").hidden = line.querySelector(".acts").hidden = false;
    line.querySelector("[data-edit]").focus();
  };
  form.querySelector("[data-cancel]").addEventListener("click", leave);
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") leave();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === box) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!box.value.trim() || controller) return;
    said.length = place;
    redraw(place);
    text.focus();
    send(box.value);
  });
}

keep.addEventListener("change", async () => {
  if (keep.checked && said.length && !controller) await keepNow();
  else if (!keep.checked && key) {
    const dropped = confirm(words.unkeep_sure) && (await drop());
    if (!dropped) keep.checked = true;
  }
  refresh();
});

async function drop() {
  const body = new URLSearchParams({ csrf: token });
  const answered = await fetch(`/dialog/${key}/delete`, { method: "POST", body, headers: { "hx-request": "true" } }).catch(() => null);
  if (!answered || (!answered.ok && answered.status !== 404)) {
    say(words.not_changed, true);
    return false;
  }
  forget();
  htmx.trigger("#list", "kept");
  return true;
}

// ---- around the talk

document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-leaves]");
  if (link && said.length && !key && !confirm(words.leave_sure)) event.preventDefault();
});
// What keeping a talk changes in the list waits while a menu in it is open: its form would be gone under the hand.
let isStale = false;
$("list").addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.requestConfig.triggeringEvent?.type !== "kept" || !$("list").querySelector("details[open]")) return;
  event.detail.shouldSwap = false;
  isStale = true;
});
$("list").addEventListener("toggle", (event) => {
  if (event.target.open || !isStale) return;
  isStale = false;
  htmx.trigger("#list", "kept");
}, true);
document.addEventListener("htmx:responseError", () => say(words.not_changed, true));
document.addEventListener("htmx:sendError", () => say(words.lost, true));

function toggle(panel, isOpen) {
  const button = panel.id === "side" ? $("menu") : $("show-mood");
  panel.classList.toggle("open", isOpen);
  button.setAttribute("aria-expanded", String(isOpen));
  if (isOpen) panel.querySelector("a, button, input").focus();
  else button.focus();
}
function showMood(isShown) {
  if (narrow.matches) {
    $("mood").hidden = false;
    return toggle($("mood"), isShown);
  }
  $("mood").hidden = !isShown;
  layout.classList.toggle("no-mood", !isShown);
  $("show-mood").setAttribute("aria-expanded", String(isShown));
  if (!isShown) $("show-mood").focus();
  changeSettings({ trajectory: isShown ? "shown" : "hidden" });
}

$("menu").addEventListener("click", () => toggle($("side"), !$("side").classList.contains("open")));
$("show-mood").addEventListener("click", () => showMood($("show-mood").getAttribute("aria-expanded") !== "true"));
$("hide-mood").addEventListener("click", () => showMood(false));
document.querySelector("[data-language-form]").addEventListener("submit", () => {
  if (said.length && !key) sessionStorage.setItem(CARRIED, JSON.stringify({ said, hadCrisis }));
});

// ---- the beginning

key = layout.dataset.key || null;
version = Number(layout.dataset.version);
hadCrisis = layout.dataset.crisis === "yes";
said = [...talk.children].map((line) => ({
  content: line.querySelector(".text").textContent, shown: JSON.parse(line.dataset.shown),
}));
const carried = sessionStorage.getItem(CARRIED);
sessionStorage.removeItem(CARRIED);
if (carried && !key) {
  ({ said, hadCrisis } = JSON.parse(carried));
  redraw();
}
keep.checked = key !== null; // a browser brings back the switch of a page that it reloads
refresh();
follow();
if (narrow.matches) $("show-mood").setAttribute("aria-expanded", "false");
else text.focus();
