// Of all pages: the colours change without leaving the page, since what is not kept would be gone.
export const token = document.querySelector("meta[name=csrf]").content;

let onItsWay = null; // a choice that the server has not answered

/** Tell the server a choice, for the next page. */
export function changeSettings(values) {
  const body = new URLSearchParams({ csrf: token, ...values });
  const change = fetch("/settings", { method: "POST", redirect: "manual", body }).catch(() => null).then(() => {
    if (onItsWay === change) onItsWay = null;
  });
  onItsWay = change;
}

document.querySelector("[data-theme-form]").addEventListener("submit", (event) => {
  event.preventDefault();
  document.documentElement.dataset.theme = event.submitter.value;
  changeSettings({ theme: event.submitter.value });
  [...event.target.querySelectorAll("button")].find((button) => button.offsetParent)?.focus();
});

// The next page has what was chosen before: a change of language waits for the answer.
document.querySelector("[data-language-form]").addEventListener("submit", async (event) => {
  if (!onItsWay) return;
  const { target, submitter } = event;
  event.preventDefault();
  await onItsWay;
  target.requestSubmit(submitter);
});
