"use strict";
/* Improves pages, which also work without JavaScript: shows times in the viewer's zone, copies
   commands, and keeps the icon of the tab up to date. Everything else is links, forms and htmx. */
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  const two = (number) => String(number).padStart(2, "0");

  const dayOf = (moment) =>
    `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;

  const localOf = (moment, seconds = "") =>
    `${dayOf(moment)} ${two(moment.getHours())}:${two(moment.getMinutes())}${seconds}`;

  /* The server writes "2026-11-29 16:20 UTC", also in sentences and in pictures. Text to be copied
     keeps UTC. */
  const inUtc = /(\d{4}-\d\d-\d\d) (\d\d:\d\d)(:\d\d)? UTC/g;
  const writeMoments = () => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (!node.data.includes(" UTC") || node.parentElement.closest("code, pre, textarea")) continue;
      const local = node.data.replace(inUtc, (_, day, time, seconds = "") =>
        localOf(new Date(`${day}T${time}Z`), seconds),
      );
      if (local !== node.data) node.data = local;
    }
  };

  /* Rewrites moments shown as a day. A day without a time of day keeps its date. */
  const writeDays = () => {
    for (const time of document.querySelectorAll("time[datetime*=T]")) {
      if (!/^\d{4}-\d\d-\d\d$/.test(time.textContent)) continue;
      const local = dayOf(new Date(time.dateTime));
      if (time.textContent !== local) time.textContent = local;
    }
  };

  /* How far a moment is from now, in the server's words (`relative`): the largest unit that fits
     twice, or exactly once; seconds only below a minute. */
  const language = root.lang.startsWith("zh") ? "zh" : "en";
  const inWords = new Intl.RelativeTimeFormat(language, { numeric: "always" });
  const UNITS = { day: 86400, hour: 3600, minute: 60, second: 1 };
  const NOW = { en: "just now", zh: "刚刚" };

  const relativeTo = (moment, now) => {
    let seconds = Math.floor(Math.abs(moment - now) / 1000);
    if (!seconds) return NOW[language];
    if (seconds >= 60 && seconds < 120) seconds = seconds < 90 ? 60 : 120;
    const [unit, size] = Object.entries(UNITS).find(
      ([, size]) => seconds >= 2 * size || seconds === size
    ) ?? ["second", 1];
    const count = Math.floor(seconds / size) * (moment > now ? 1 : -1);
    const parts = inWords.formatToParts(count, unit);
    const words = parts.map((part) => part.value);
    return language === "zh" ? words.join(" ").trim().replace("秒钟", "秒") : words.join("");
  };

  const exactly = (moment) => {
    const minutes = -moment.getTimezoneOffset();
    const size = Math.abs(minutes);
    const offset = `${minutes < 0 ? "-" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
    return `${localOf(moment)}:${two(moment.getSeconds())} ${offset}`;
  };

  const writeNear = () => {
    const now = new Date();
    for (const time of document.querySelectorAll("time[title$=' UTC']")) {
      time.title = exactly(new Date(time.dateTime));
    }
    for (const time of document.querySelectorAll("time.near")) {
      const words = relativeTo(new Date(time.dateTime), now);
      if (time.textContent !== words) time.textContent = words;
    }
  };

  /* A filter by days means days of the viewer's zone. The fields show these days, and send the moments
     at which the days begin and end. */
  const isUntil = (field) => field.name === "until";

  const writeDayFields = () => {
    for (const field of document.querySelectorAll("input.day[data-moment]")) {
      const moment = new Date(field.dataset.moment);
      if (/T.*Z$/.test(field.dataset.moment) && !Number.isNaN(moment.getTime())) {
        field.value = dayOf(new Date(moment - (isUntil(field) ? 1 : 0)));
      }
      field.removeAttribute("data-moment");
    }
  };

  document.addEventListener("formdata", (event) => {
    for (const field of event.target.querySelectorAll("input.day")) {
      if (!/^\d{4}-\d\d-\d\d$/.test(field.value)) continue;
      const [year, month, day] = field.value.split("-").map(Number);
      const moment = new Date(year, month - 1, day + (isUntil(field) ? 1 : 0));
      event.formData.set(field.name, moment.toISOString().replace(".000Z", "Z"));
    }
  });

  /* The events of a day are counted by quarters of an hour (since 1970), and counted anew by the
     days of the viewer's zone: the page has a hidden day before and after its own for these. */
  const QUARTER = 15 * 60 * 1000;

  const countByDay = (strip) => {
    const wanted = new Map();
    const groups = [...strip.querySelectorAll("[data-counts]")];
    for (const group of groups) {
      for (const entry of group.dataset.counts.split(" ")) {
        const at = new Date(entry.split(":")[0] * QUARTER);
        const day = strip.querySelector(`[data-day="${dayOf(at)}"]`) ?? group.parentElement;
        const kinds = wanted.get(day) ?? wanted.set(day, new Map()).get(day);
        const kind = kinds.get(group.className) ?? { group, entries: [] };
        kinds.set(group.className, kind);
        kind.entries.push(entry);
      }
    }
    for (const group of groups) {
      if (!wanted.get(group.parentElement)?.has(group.className)) group.remove();
    }
    for (const [day, kinds] of wanted) {
      for (const [name, { group, entries }] of kinds) {
        const there = [...day.children].find((one) => one.className === name);
        writeCount(there ?? day.appendChild(group.cloneNode(true)), day, entries);
      }
    }
  };

  const writeCount = (group, day, entries) => {
    const counts = entries.join(" ");
    if (group.dataset.counts !== counts) group.dataset.counts = counts;
    const count = String(entries.reduce((sum, entry) => sum + Number(entry.split(":")[1]), 0));
    const shown = group.querySelector("b");
    if (shown.textContent !== count) shown.textContent = count;
    const link = group.querySelector("a");
    const [year, month, number] = day.dataset.day.split("-").map(Number);
    const address = new URL(link.href);
    const midnight = new Date(year, month - 1, number).toISOString().replace(".000Z", "Z");
    address.searchParams.set("day", midnight);
    if (link.href !== address.href) link.href = address.href;
  };

  const arrangeDays = () => {
    const now = new Date();
    const today = dayOf(now);
    const last = dayOf(new Date(now.getFullYear(), now.getMonth(), now.getDate() + 13));
    for (const strip of document.querySelectorAll(".strip")) {
      countByDay(strip);
      const isRight = strip.querySelector(`[data-day="${today}"]`); /* or this clock is days off */
      for (const day of strip.children) {
        if (isRight) day.hidden = day.dataset.day < today || day.dataset.day > last;
        day.classList.toggle("off", !day.querySelector("p"));
        if (day.dataset.day === today) day.setAttribute("aria-current", "date");
        else day.removeAttribute("aria-current");
      }
    }
  };

  const writeTimes = () => {
    writeMoments();
    writeNear();
    writeDays();
    writeDayFields();
    arrangeDays();
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

  const showOn = (button, words) => {
    const before = button.textContent;
    button.textContent = words;
    button.disabled = true;
    setTimeout(() => {
      button.textContent = before;
      button.disabled = false;
    }, 1500);
  };

  /* After a failed refresh the page keeps its old content, and says that the content may be old. */
  const sayStale = (isStale) => {
    const note = document.querySelector("[data-stale]");
    if (note) note.hidden = !isStale;
  };
  document.addEventListener("htmx:error", () => sayStale(true));
  document.addEventListener("htmx:after:swap", (event) =>
    sayStale(event.detail.ctx.response.status >= 400)
  );

  /* Browsers offer no clipboard over plain HTTP. There, the script selects the text for Ctrl+C. */
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copied]");
    if (!button) return;
    const source = button.closest(".command, div").querySelector("code, pre, textarea");
    if (!source) return;
    try {
      await navigator.clipboard.writeText(source.value ?? source.textContent);
      showOn(button, button.dataset.copied);
    } catch {
      select(source);
      if (button.dataset.selected) showOn(button, button.dataset.selected);
    }
  });

  /* htmx refreshes the runs in progress at the top of the page. Copies their number into the
     navigation, which stands twice on the page. */
  const countRuns = () => {
    const running = document.getElementById("running");
    if (!running) return;
    for (const count of document.querySelectorAll("[data-running]")) {
      if (count.textContent === running.dataset.count) continue;
      count.textContent = running.dataset.count;
      count.parentElement.hidden = running.dataset.count === "0";
    }
  };

  const improve = () => {
    writeTimes();
    countRuns();
    showTrouble();
  };

  /* Improves the page after each change, before the browser paints: htmx refreshes parts, and runs.js
     adds events. Each function writes only where the text differs. A function that always wrote would
     change the page, and so call itself for ever. */
  const watch = () => {
    improve();
    setInterval(writeNear, 30000);
    new MutationObserver(improve).observe(root, {
      childList: true,
      characterData: true,
      subtree: true,
    });
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", watch);
  else watch();
})();
