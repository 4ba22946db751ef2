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
    for (const zone of document.querySelectorAll("[data-zone]")) {
      zone.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone || zone.textContent;
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

  document.addEventListener("htmx:after:swap", improve);
  document.addEventListener("htmx:after:settle", improve);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", improve);
  else improve();
})();
