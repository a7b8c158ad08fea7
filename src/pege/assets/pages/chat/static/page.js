// Of all pages: the colours change without leaving the page, since what is not kept would be gone.
export const token = document.querySelector("meta[name=csrf]").content;

/** Tell the server a choice, for the next page. */
export const changeSettings = (values) =>
  fetch("/settings", { method: "POST", redirect: "manual", body: new URLSearchParams({ csrf: token, ...values }) }).catch(() => null);

document.querySelector("[data-theme-form]").addEventListener("submit", (event) => {
  event.preventDefault();
  document.documentElement.dataset.theme = event.submitter.value;
  changeSettings({ theme: event.submitter.value });
  [...event.target.querySelectorAll("button")].find((button) => button.offsetParent)?.focus();
});
