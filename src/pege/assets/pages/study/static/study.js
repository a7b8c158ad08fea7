// Keyboard, the state of saving, and questions that hang on others. Without this file the pages are plain forms that work.
"use strict";
document.documentElement.classList.add("js");

const form = () => document.querySelector("form[data-rate]");
const asks = () => [...form().querySelectorAll("fieldset[data-ask]:not([hidden])")];
const given = (ask) => ask.querySelector("input:checked");
let counter = 0, retry = 0, wait = 1000;

function refresh() {
  for (const ask of form().querySelectorAll("fieldset[data-if]")) {
    const other = form().querySelector(`input[name="${CSS.escape(ask.dataset.if)}"]:checked`);
    ask.hidden = !other || other.value !== ask.dataset.is;
    ask.disabled = ask.hidden; // what is not asked is not sent
  }
  const all = asks(), n = all.filter(given).length;
  for (const ask of all) if (given(ask)) ask.classList.remove("missing");
  const count = form().querySelector("[data-count]");
  count.textContent = count.dataset.form.replace("{n}", n).replace("{all}", all.length);
}

function say(state) {
  const status = form() && form().querySelector("[data-status]");
  if (!status) return;
  status.dataset.state = state;
  status.textContent = status.dataset[state];
}

function begin() {
  if (!form()) return;
  counter = Number(form().dataset.counter);
  refresh();
}

function move(step) {
  const all = asks(), at = all.findIndex((a) => a.contains(document.activeElement));
  const next = all[at < 0 ? (step < 0 ? all.length - 1 : 0) : Math.min(Math.max(at + step, 0), all.length - 1)];
  (given(next) || next.querySelector("input")).focus();
  next.scrollIntoView({ block: "center" });
}

function onward() { // to the next question that is open, else to the button
  const all = asks(), at = all.findIndex((a) => a.contains(document.activeElement));
  const open = all.slice(at + 1).find((a) => !given(a)) || all.find((a) => !given(a));
  const target = open ? open.querySelector("input") : form().querySelector("button.main");
  target.focus();
  target.scrollIntoView({ block: "center" });
}

document.addEventListener("keydown", (event) => {
  if (!form() || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!document.querySelector("#page").contains(document.activeElement) && document.activeElement !== document.body) return;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    move(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter" && document.activeElement.type === "radio") {
    event.preventDefault();
    if (asks().every(given)) form().requestSubmit();
    else onward();
  } else if (/^[0-9]$/.test(event.key)) {
    const all = asks();
    const ask = all.find((a) => a.contains(document.activeElement)) || all.find((a) => !given(a));
    const input = ask && ask.querySelector(`input[data-key="${event.key}"]`);
    if (!input) return;
    event.preventDefault();
    input.focus();
    if (!input.checked) {
      input.checked = true;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    }
    onward();
  }
});

document.addEventListener("change", () => { if (form()) refresh(); });

document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.elt.matches("[data-saves], [data-rate]")) {
    event.detail.parameters["counter"] = String(counter++);
    say("saving");
  }
});

document.addEventListener("htmx:afterRequest", (event) => {
  if (!form()) return;
  const element = event.detail.elt, status = event.detail.xhr ? event.detail.xhr.status : 0;
  const saves = element.hasAttribute && element.hasAttribute("data-saves");
  if (saves && event.detail.successful) {
    wait = 1000;
    say("saved");
  } else if (status === 409) say("stale");
  else if (status === 401 || status === 403 || status === 404) say("ended");
  else if (status === 0 || status === 429 || status >= 500) { // the server is away: try until it is back
    say("failed");
    clearTimeout(retry);
    retry = setTimeout(() => {
      const box = document.querySelector("[data-saves]");
      if (box) htmx.trigger(box, "change");
    }, wait);
    wait = Math.min(wait * 2, 15000);
  }
});

document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.elt.id !== "page") return;
  clearTimeout(retry);
  begin();
  const missing = document.querySelector(".ask.missing input");
  (missing || document.getElementById("page")).focus();
});

document.addEventListener("htmx:beforeRequest", (event) => { // the owner's page renews itself, but not under the reader's hands
  const live = event.detail.elt;
  if (live.id === "live" && live.contains(document.activeElement)) event.preventDefault();
});

window.addEventListener("beforeunload", (event) => {
  const status = form() && form().querySelector("[data-status]");
  if (status && ["saving", "failed"].includes(status.dataset.state)) event.preventDefault();
});

begin();
