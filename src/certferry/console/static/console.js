"use strict";
/* Improves pages that are whole without it: times in the viewer's zone, buttons that copy, and the
   icon of a tab in the background. Everything else is links, forms and htmx. */
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  const two = (number) => String(number).padStart(2, "0");

  const local = (moment) =>
    `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())} ` +
    `${two(moment.getHours())}:${two(moment.getMinutes())}`;

  /* The server writes "2026-11-29 16:20 UTC"; a time that is written otherwise stays as it is. */
  const writeTimes = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const said = /^(.*?)\d{4}-\d\d-\d\d \d\d:\d\d UTC$/.exec(time.textContent);
      const moment = new Date(time.dateTime);
      if (said && !Number.isNaN(moment.getTime())) time.textContent = said[1] + local(moment);
    }
    const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
    for (const zone of document.querySelectorAll("[data-zone]")) {
      if (here && zone.textContent !== here) zone.textContent = here;
    }
  };

  const showTrouble = () => {
    const icon = document.querySelector("link[rel=icon]");
    if (!icon) return;
    const wanted = document.title.startsWith("(") ? icon.dataset.error : icon.dataset.ok;
    if (wanted && icon.getAttribute("href") !== wanted) icon.setAttribute("href", wanted);
  };

  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };

  const said = (button, words) => {
    const before = button.textContent;
    button.textContent = words;
    button.disabled = true;
    setTimeout(() => {
      button.textContent = before;
      button.disabled = false;
    }, 1500);
  };

  /* A part that could not be refreshed stays as it was, and the page says so. */
  const sayStale = (isStale) => {
    const note = document.querySelector("[data-stale]");
    if (note) note.hidden = !isStale;
  };
  document.addEventListener("htmx:error", () => sayStale(true));
  document.addEventListener("htmx:after:swap", (event) =>
    sayStale(event.detail.ctx.response.status >= 400)
  );

  /* Over plain HTTP there is no clipboard: the text is selected, for Ctrl+C. */
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copied]");
    if (!button) return;
    const source = button.parentElement.querySelector("code, pre, textarea");
    if (!source) return;
    try {
      await navigator.clipboard.writeText(source.value ?? source.textContent);
      said(button, button.dataset.copied);
    } catch {
      select(source);
      if (button.dataset.selected) said(button, button.dataset.selected);
    }
  });

  const improve = () => {
    writeTimes();
    showTrouble();
  };

  /* Whatever changes the page, a refresh of a part or the live run: before it is painted. What is
     improved already is not written again, which would be a change without end. */
  const watch = () => {
    improve();
    new MutationObserver(improve).observe(root, {
      childList: true,
      characterData: true,
      subtree: true,
    });
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", watch);
  else watch();
})();
