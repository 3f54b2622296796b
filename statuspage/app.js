"use strict";
// Requests the page again every two seconds, and changes what differs: the focus,
// the selection, and what the reader opened or closed stay as they are. A part that
// the server opens or closes anew, such as a peer that becomes sick, follows.
(() => {
  const every = 2000, patience = 10000;
  const find = (id) => document.getElementById(id);
  const pause = find("pause"), live = find("live"), lost = find("lost");
  let paused = false, busy = false, timer = 0, since = null;

  const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");

  function morph(from, to) {
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
      return;
    }
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name) && !(from.nodeName === "DETAILS" && name === "open")) from.removeAttribute(name);
    }
    if (from.nodeName === "DETAILS" && from.dataset.open !== to.dataset.open) from.open = to.open;
    for (const { name, value } of to.attributes) {
      if (from.nodeName === "DETAILS" && name === "open") continue;
      if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    const old = [...from.childNodes], fresh = [...to.childNodes];
    fresh.forEach((next, i) => {
      let match = old[i];
      if (next.id) { // a card keeps its place in the document, and its state
        const known = [...from.children].find((c) => c.id === next.id);
        if (known && known !== match) {
          from.insertBefore(known, match || null);
          old.splice(old.indexOf(known), 1);
          old.splice(i, 0, known);
        }
        match = old[i];
      }
      if (!match) from.appendChild(next.cloneNode(true));
      else if (same(match, next)) morph(match, next);
      else from.replaceChild(next.cloneNode(true), match);
    });
    old.slice(fresh.length).forEach((gone) => gone.remove());
  }

  function show(text) {
    const focused = document.activeElement;
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const part of ["icon", "main"]) morph(find(part), page.getElementById(part));
    for (const query of ["h1", "#summary", "header time"]) morph(document.querySelector(query), page.querySelector(query));
    document.title = page.title;
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true }); // it was moved
  }

  async function refresh() {
    clearTimeout(timer);
    if (paused || busy || document.hidden) return;
    busy = true;
    const abort = new AbortController(), late = setTimeout(() => abort.abort(), patience);
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store", signal: abort.signal });
      if (!answer.ok) throw new Error("status " + answer.status);
      const text = await answer.text();
      if (!paused) show(text);
      since = null;
      lost.hidden = true;
    } catch {
      since ??= new Date();
      const message = "No response since " + since.toLocaleTimeString() + ": the data shown is old. Retrying.";
      if (lost.textContent !== message) lost.textContent = message;
      lost.hidden = false;
    } finally {
      clearTimeout(late);
      busy = false;
    }
    clearTimeout(timer);
    timer = setTimeout(refresh, every);
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume" : "Pause";
    live.textContent = paused ? "Paused at" : "Live, as of";
    refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  find("main").addEventListener("click", (event) => { // the picture leads to an open card
    const link = event.target.closest('a[href^="#peer-"]');
    if (link) find(link.getAttribute("href").slice(1)).open = true;
  });
  pause.hidden = false;
  find("reload").hidden = true;
  live.textContent = "Live, as of";
  timer = setTimeout(refresh, every);
})();
