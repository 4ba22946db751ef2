"use strict";
/* Improves pages, which also work without JavaScript: shows times in the viewer's zone, copies
   commands, and keeps the icon of the tab up to date. Everything else is links, forms and htmx. */
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  const two = (number) => String(number).padStart(2, "0");

  const dayOf = (moment) =>
    `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;

  const localOf = (moment, seconds) =>
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
     twice, or exactly once. */
  const language = root.lang.startsWith("zh") ? "zh" : "en";
  const inWords = new Intl.RelativeTimeFormat(language, { numeric: "always" });
  const UNITS = { day: 86400, hour: 3600, minute: 60, second: 1 };
  const NOW = { en: "now", zh: "现在" };

  const relativeTo = (moment, now) => {
    const seconds = Math.floor(Math.abs(moment - now) / 1000);
    if (!seconds) return NOW[language];
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
    for (const field of document.querySelectorAll("input[type=date][data-moment]")) {
      const moment = new Date(field.dataset.moment);
      if (/T.*Z$/.test(field.dataset.moment) && !Number.isNaN(moment.getTime())) {
        field.value = dayOf(new Date(moment - (isUntil(field) ? 1 : 0)));
      }
      field.removeAttribute("data-moment");
    }
  };

  document.addEventListener("formdata", (event) => {
    for (const field of event.target.querySelectorAll("input[type=date]")) {
      if (!field.value) continue;
      const [year, month, day] = field.value.split("-").map(Number);
      const moment = new Date(year, month - 1, day + (isUntil(field) ? 1 : 0));
      event.formData.set(field.name, moment.toISOString().replace(".000Z", "Z"));
    }
  });

  /* An event moves to its day in the viewer's zone, at most one day before or after its day in UTC.
     The page has a hidden day before the first and after the last for such events. */
  const dayIn = (strip, at) => strip.querySelector(`[data-day="${dayOf(new Date(at))}"]`);

  const groupIn = (day, group) => {
    let there = [...day.children].find((child) => child.className === group.className);
    if (!there) {
      there = group.cloneNode(false);
      there.append(group.querySelector(".what").cloneNode(true));
      day.append(there);
    }
    return there;
  };

  const moveToItsDay = (strip, link) => {
    const day = dayIn(strip, link.dataset.at);
    const group = link.parentElement;
    if (!day || day === group.parentElement) return;
    const there = groupIn(day, group);
    const isLater = (other) => !(other.dataset.at <= link.dataset.at);
    there.insertBefore(link, [...there.querySelectorAll("a")].find(isLater) ?? null);
    if (!group.querySelector("a")) group.remove();
  };

  /* Moves the moments behind "and 3 more" to their days, too. */
  const countInItsDay = (strip, more) => {
    const group = more.parentElement;
    const moments = more.dataset.more.split(" ");
    const dayOfMoment = (at) => dayIn(strip, at) ?? group.parentElement;
    for (const day of new Set(moments.map(dayOfMoment))) {
      if (day === group.parentElement) continue;
      const there = groupIn(day, group);
      const present = there.querySelector("[data-more]");
      const before = present ? present.dataset.more.split(" ") : [];
      const moved = moments.filter((at) => dayOfMoment(at) === day);
      writeMore(present ?? there.appendChild(more.cloneNode(true)), [...before, ...moved]);
    }
    const own = moments.filter((at) => dayOfMoment(at) === group.parentElement);
    if (own.length) writeMore(more, own);
    else more.remove();
    if (!group.querySelector("a")) group.remove();
  };

  const writeMore = (more, moments) => {
    more.dataset.more = moments.join(" ");
    const words = more.textContent.replace(/\d+/, moments.length);
    if (words !== more.textContent) more.textContent = words;
  };

  const arrangeDays = () => {
    const now = new Date();
    const today = dayOf(now);
    const last = dayOf(new Date(now.getFullYear(), now.getMonth(), now.getDate() + 13));
    for (const strip of document.querySelectorAll(".strip")) {
      for (const link of strip.querySelectorAll("[data-at]")) moveToItsDay(strip, link);
      for (const more of strip.querySelectorAll("[data-more]")) countInItsDay(strip, more);
      const isRight = strip.querySelector(`[data-day="${today}"]`); /* false if the browser's clock is days off */
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
    const source = button.parentElement.querySelector("code, pre, textarea");
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
