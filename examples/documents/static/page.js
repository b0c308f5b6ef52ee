// The page: what is there, what is on its way, and two dialogs. Text from outside is set as text, never as markup.

import { Failure, NO_HINTS, Queue, Transfer, failure, hints, objection, size } from "./sending.js";

const PAGE = 50;
const THUMBNAIL = 20e6; // bytes; what is larger is not loaded only to be shown small
const STALE = 45 * 60e3; // the URLs of the list are good for an hour

const find = (selector, within = document) => within.querySelector(selector);
const clone = (id) => find(id).content.firstElementChild.cloneNode(true);
const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const queue = new Queue();

let accepts = NO_HINTS;
let wanted = PAGE;
let asked = 0;
let listed = 0;

/** Tell those who do not see the page. */
function say(text) {
  const line = document.createElement("p");
  line.textContent = text;
  find("#said").append(line);
  while (find("#said").children.length > 20) find("#said").firstElementChild.remove();
}

// What is there

/** Changes with whatever a row shows; some stores tell the time in whole seconds only. */
const version = (item) => JSON.stringify([item.name, item.stored_at, item.checksum]);

function row(item) {
  const node = clone("#document");
  node.dataset.id = item.id;
  node.dataset.version = version(item);
  const [family] = item.content_type.split("/");
  const isShown = ["image", "video", "audio"].includes(family) && item.content_type !== "image/svg+xml";
  picture(item, family, find(".kind", node));
  find(".name", node).textContent = item.name;
  find(".facts", node).textContent =
    `${size(item.size)} \u00b7 ${item.content_type} \u00b7 ${date.format(item.stored_at * 1000)}`;
  for (const link of node.querySelectorAll("a")) link.href = `/documents/${item.id}/file`;
  const view = find(".view", node);
  view.textContent = family === "image" ? "View" : "Play";
  (isShown ? find(".open", node) : view).remove();
  if (isShown) for (const button of [view, find(".kind", node)]) button.addEventListener("click", () => show(item, family));
  find(".replace", node).addEventListener("click", () => replace(item));
  find(".delete", node).addEventListener("click", () => erase(item, node));
  for (const act of node.querySelectorAll(".acts > *")) act.setAttribute("aria-label", `${act.textContent} ${item.name}`);
  return node;
}

/** A small picture of an image; of all else, and where that fails, the extension. */
function picture(item, family, node) {
  const extension = /\.([a-z0-9]{1,4})$/i.exec(item.filename)?.[1] ?? "file";
  const words = document.createElement("span");
  words.textContent = extension.toUpperCase();
  node.append(words);
  if (family !== "image" || item.size > THUMBNAIL) return;
  const image = new Image();
  image.alt = "";
  image.loading = "lazy";
  image.addEventListener("load", () => node.classList.add("loaded"));
  image.addEventListener("error", () => image.remove());
  image.src = item.file_url;
  node.append(image);
}

async function list() {
  const mine = ++asked;
  let page;
  try {
    const answer = await fetch(`/documents?pageSize=${wanted}&currentPage=1`);
    if (!answer.ok) throw failure(answer.status, await answer.text());
    page = await answer.json();
  } catch (error) {
    find("#count").textContent = error instanceof Failure ? error.message : "The server cannot be reached.";
    return;
  }
  if (mine !== asked) return; // a later one is under way
  const isFresh = Date.now() - listed < STALE;
  listed = Date.now();
  const known = new Map([...find("#documents").children].map((node) => [node.dataset.id, node]));
  const rows = page.items.map((item) => {
    const node = known.get(item.id);
    const isSame = node?.dataset.version === version(item);
    return isFresh && isSame ? node : row(item);
  });
  keepFocus(() => find("#documents").replaceChildren(...rows));
  find("#count").textContent = page.total === 1 ? "1 file" : `${page.total} files`;
  find("#empty").hidden = page.total > 0;
  find("#more").hidden = rows.length >= page.total;
}

/** Change the list, and leave the keyboard where it was: at the same button of the same document. */
function keepFocus(change) {
  const held = document.activeElement;
  const id = held.closest(".document")?.dataset.id;
  change();
  if (!id) return;
  const same = find(`[data-id="${id}"] .${[...held.classList].join(".")}`);
  (held.isConnected ? held : (same ?? find("#pick"))).focus({ preventScroll: true });
}

function show(item, family) {
  const viewer = find("#viewer");
  const media = document.createElement(family === "image" ? "img" : family);
  if (family === "image") media.alt = item.name;
  else Object.assign(media, { controls: true, preload: "metadata", ariaLabel: item.name });
  media.addEventListener("error", () => {
    const words = document.createElement("p");
    words.textContent = "The browser cannot show this file.";
    media.replaceWith(words);
  });
  media.src = item.file_url; // the store is asked for as much as is watched, by Range
  find("#viewed").textContent = item.name;
  find(".stage", viewer).replaceChildren(media);
  viewer.showModal();
}

function replace(item) {
  const input = find("#replacement");
  input.onchange = () => {
    const [file] = input.files;
    if (file) send(file, { method: "PATCH", url: `/documents/${item.id}` });
    input.value = "";
  };
  input.click();
}

/** Whether the person who is asked says yes; Escape says no. */
function confirmed(question) {
  const dialog = find("#confirm");
  find("#question").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function erase(item, node) {
  if (!(await confirmed(`Delete \u201c${item.name}\u201d?`))) return;
  node.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`/documents/${item.id}`, { method: "DELETE" });
    if (!answer.ok && answer.status !== 404) throw failure(answer.status, await answer.text());
  } catch (error) {
    node.removeAttribute("aria-busy");
    const words = error instanceof Failure ? error.message : "The server cannot be reached.";
    find(".facts", node).textContent = `Not deleted. ${words}`;
    return say(`${item.name} was not deleted. ${words}`);
  }
  say(`${item.name} was deleted.`);
  const neighbour = node.nextElementSibling ?? node.previousElementSibling;
  node.remove();
  (neighbour ? find(".delete", neighbour) : find("#pick")).focus();
  await list();
}

// What is on its way

function send(file, where = {}) {
  const node = clone("#transfer");
  find(".name", node).textContent = file.name;
  find("progress", node).setAttribute("aria-label", `Upload of ${file.name}`);
  for (const button of node.querySelectorAll("button")) button.setAttribute("aria-label", `${button.textContent} ${file.name}`);
  find("#transfers").append(node);
  const direct = accepts.direct && find("[name=way]:checked").value === "direct";
  const transfer = new Transfer(file, { direct, ...where, onChange: () => draw(transfer, node) });
  find(".cancel", node).addEventListener("click", () => transfer.cancel());
  find(".dismiss", node).addEventListener("click", () => leave(node));
  find(".retry", node).addEventListener("click", () => {
    transfer.reset();
    find(".cancel", node).focus();
    queue.add(transfer);
  });
  const no = objection(file, accepts);
  if (no) Object.assign(transfer, { state: "failed", error: new Failure(no) });
  draw(transfer, node);
  if (!no) queue.add(transfer);
}

function draw({ file, state, progress, error }, node) {
  const isOver = error !== null;
  const hadFocus = node.contains(document.activeElement);
  node.dataset.state = state;
  find("progress", node).value = progress;
  find(".state", node).textContent = error?.message ?? {
    waiting: "Waiting",
    sending: `${Math.floor(100 * progress)} % of ${size(file.size)}`,
    storing: "Storing\u2026",
    done: "Done",
  }[state];
  find(".cancel", node).hidden = isOver;
  find(".retry", node).hidden = !error?.again;
  find(".dismiss", node).hidden = !isOver;
  if (state === "done") {
    leave(node);
    say(`${file.name} is uploaded.`);
    list();
  } else if (isOver) {
    if (hadFocus) find("button:not([hidden])", node).focus();
    say(state === "cancelled" ? `${file.name} was cancelled.` : `${file.name} was not uploaded. ${error.message}`);
    list(); // what was cancelled at the last moment may be there all the same
  }
}

/** Take a transfer away, and not the keyboard with it. */
function leave(node) {
  const hadFocus = node.contains(document.activeElement);
  const next = node.nextElementSibling ?? node.previousElementSibling;
  node.remove();
  if (hadFocus) ((next && find("button:not([hidden])", next)) ?? find("#pick")).focus();
}

// The rest

for (const button of document.querySelectorAll("dialog button")) {
  button.addEventListener("click", () => button.closest("dialog").close(button.value));
}
find("#viewer").addEventListener("close", () => find("#viewer .stage").replaceChildren()); // it would play on
find("#pick").addEventListener("change", ({ target }) => {
  for (const file of [...target.files]) send(file);
  target.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // a file that is dropped beside the box would otherwise replace the page
    find("#drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") for (const file of [...event.dataTransfer.files]) send(file);
  });
}
find("#more").addEventListener("click", () => {
  wanted += PAGE;
  list();
});
addEventListener("visibilitychange", () => {
  if (!document.hidden && Date.now() - listed > STALE) list();
});
addEventListener("beforeunload", (event) => {
  if (queue.isBusy) event.preventDefault();
});

accepts = await hints();
for (const input of [find("#pick"), find("#replacement")]) input.accept = accepts.accept;
if (accepts.max_size !== null) find("#hint").textContent = `or drop them here \u00b7 up to ${size(accepts.max_size)} each`;
find("#way").hidden = !accepts.direct;
await list();
