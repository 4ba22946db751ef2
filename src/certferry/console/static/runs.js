"use strict";
/* The page of a run in progress, live: events as they come by server-sent events; where a proxy
   keeps these back, the page is fetched again every few seconds instead. */
(() => {
  const SILENCE = 5000; /* of a stream that has just begun */
  const LONG_SILENCE = 40000; /* the server sends a beat every 15 seconds */
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

  /* Takes what is new from the page as it is now; what has the focus stays, if it is still there. */
  const refresh = async () => {
    const answer = await fetch(page, { credentials: "same-origin", cache: "no-store" });
    if (answer.redirected || !answer.ok) {
      if (answer.redirected) location.reload(); /* the session is over */
      return;
    }
    const now = new DOMParser().parseFromString(await answer.text(), "text/html");
    now.querySelectorAll("#run-events > li").forEach(add);
    const ended = !now.getElementById("run-state").dataset.events;
    if (!ended) return;
    isOver = true;
    for (const id of ["run-state", "run-report"]) {
      document.getElementById(id).replaceWith(now.getElementById(id));
    }
    document.title = now.title;
  };

  const poll = async () => {
    close();
    if (isOver) return;
    try {
      await refresh();
    } catch {
      /* the network; the next time */
    }
    /* Meanwhile the tab may have come to the front again, and listen. */
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
    for (const kind of ["begun", "beat", "event"]) {
      source.addEventListener(kind, (event) => {
        expect(LONG_SILENCE);
        if (kind !== "event") return;
        const holder = document.createElement("template");
        holder.innerHTML = event.data;
        const item = holder.content.querySelector("li");
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

  /* A browser holds six connections to a server: a tab in the background takes none, and asks now
     and then, so that its title says how the run ended. */
  document.addEventListener("visibilitychange", () => {
    if (isOver) return;
    close();
    if (document.hidden) timer = setTimeout(poll, PAUSE_HIDDEN);
    else listen();
  });

  listen();
})();
