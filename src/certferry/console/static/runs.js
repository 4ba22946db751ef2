"use strict";
/* Keeps the page of a run in progress up to date. The server sends the run's events as they happen
   (server-sent events). A proxy may hold these back; then the script fetches the page again every
   few seconds. */
(() => {
  const SILENCE = 5000; /* after this time without a message, a new stream counts as held back */
  const LONG_SILENCE = 40000; /* a working stream has a message at least every 15 seconds */
  const PAUSE = 3000;
  const PAUSE_HIDDEN = 15000;

  const state = document.getElementById("run-state");
  const list = document.getElementById("run-events");
  if (!state || !list || !state.dataset.events) return;
  const page = location.href;
  const address = state.dataset.events;
  let last = Number(list.dataset.last);
  let source = null;
  let timer = 0;
  let isOver = false;

  const atEnd = () => window.innerHeight + window.scrollY >= document.body.scrollHeight - 80;

  const add = (item) => {
    const number = Number(item.dataset.number);
    if (!(number > last)) return;
    const follows = atEnd();
    list.append(item);
    last = number;
    if (follows) item.scrollIntoView({ block: "nearest" });
  };

  /* The server sends the elapsed time in seconds. Between two messages the script counts on, by the
     browser's own clock: the clocks of browser and server may differ by hours. */
  let written = performance.now();
  const two = (number) => String(number).padStart(2, "0");
  const clock = (seconds) => {
    const minutes = Math.floor(seconds / 60);
    const rest = two(seconds % 60);
    if (minutes < 60) return `${minutes}:${rest}`;
    return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}`;
  };
  const tick = () => {
    const elapsed = document.querySelector("#run-progress [data-seconds]");
    if (!elapsed) return;
    const seconds = Number(elapsed.dataset.seconds);
    elapsed.textContent = clock(seconds + Math.floor((performance.now() - written) / 1000));
  };
  setInterval(tick, 1000);

  const showProgress = (line) => {
    const before = document.getElementById("run-progress");
    if (!line || !before) return;
    before.replaceWith(line);
    written = performance.now();
  };

  const elementIn = (markup, selector) => {
    const holder = document.createElement("template");
    holder.innerHTML = markup;
    return holder.content.querySelector(selector);
  };

  /* Fetches the page, and takes over its new events and its progress. After the end of the run, also
     takes over the result; the events stay, so an element that has the focus keeps the focus. */
  const refresh = async () => {
    const answer = await fetch(page, { credentials: "same-origin", cache: "no-store" });
    if (answer.redirected || !answer.ok) {
      if (answer.redirected) location.reload(); /* the session has ended: show the login page */
      return;
    }
    const current = new DOMParser().parseFromString(await answer.text(), "text/html");
    current.querySelectorAll("#run-events > li").forEach(add);
    showProgress(current.getElementById("run-progress"));
    const ended = !current.getElementById("run-state").dataset.events;
    if (!ended) return;
    isOver = true;
    for (const id of ["run-state", "run-report"]) {
      document.getElementById(id).replaceWith(current.getElementById(id));
    }
    document.title = current.title;
  };

  const poll = async () => {
    close();
    if (isOver) return;
    try {
      await refresh();
    } catch {
      /* The network failed; the next poll tries again. */
    }
    /* During the refresh the tab may have come to the front, and opened a stream. */
    if (!isOver && !source) timer = setTimeout(poll, document.hidden ? PAUSE_HIDDEN : PAUSE);
  };

  const close = () => {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  };

  const expect = (within) => {
    clearTimeout(timer);
    timer = setTimeout(poll, within);
  };

  const listen = () => {
    close();
    source = new EventSource(`${address}?after=${last}`);
    expect(SILENCE);
    for (const kind of ["begun", "beat", "event", "progress"]) {
      source.addEventListener(kind, (event) => {
        expect(LONG_SILENCE);
        if (kind === "progress") showProgress(elementIn(event.data, "p"));
        const item = kind === "event" && elementIn(event.data, "li");
        if (item) add(item);
      });
    }
    source.addEventListener("ended", () => {
      close();
      poll();
    });
    source.onerror = () => {
      if (source && source.readyState === EventSource.CLOSED) poll();
      else expect(SILENCE);
    };
  };

  /* A browser opens at most six connections to a server. So a tab in the background closes its
     stream, and fetches the page now and then, because its title shows how the run ended. */
  document.addEventListener("visibilitychange", () => {
    if (isOver) return;
    close();
    if (document.hidden) timer = setTimeout(poll, PAUSE_HIDDEN);
    else listen();
  });

  listen();
})();
