const find = (selector, within = document) => within.querySelector(selector);
const PAGE = 50;
const LIMIT = 500e6; // what the rule in app.py says; asked here too, so that nobody waits for a refusal
let shown = 0;

function clone(id) {
  return find(id).content.firstElementChild.cloneNode(true);
}

function size(bytes) {
  if (bytes < 1000) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  const unit = Math.min(Math.floor(Math.log10(bytes) / 3), 4);
  return `${(bytes / 1000 ** unit).toFixed(bytes < 10 * 1000 ** unit ? 1 : 0)} ${["", "kB", "MB", "GB", "TB"][unit]}`;
}

const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

// The list

function row(item) {
  const node = clone("#document");
  const name = item.name;
  node.dataset.id = item.id;
  const extension = /\.([a-z0-9]{1,4})$/i.exec(item.filename ?? "")?.[1];
  find(".kind", node).textContent = (extension ?? "file").toUpperCase();
  find(".name", node).textContent = name;
  find(".facts", node).textContent =
    `${size(item.size)} \u00b7 ${item.content_type} \u00b7 ${date.format(item.stored_at * 1000)}`;
  for (const link of node.querySelectorAll("a")) link.href = item.file_url;
  find(".open", node).setAttribute("aria-label", `Open ${name}`);
  const replacement = find("input", node);
  replacement.setAttribute("aria-label", `Replace ${name}`);
  replacement.addEventListener("change", () => {
    const [file] = replacement.files;
    if (file) send("PATCH", `/documents/${item.id}`, file);
    replacement.value = "";
  });
  const remove = find(".delete", node);
  remove.setAttribute("aria-label", `Delete ${name}`);
  remove.addEventListener("click", () => erase(item, node));
  return node;
}

async function list(from = 0) {
  let page;
  try {
    const answer = await fetch(`/listing?pageSize=${PAGE}&currentPage=${from / PAGE + 1}`);
    if (!answer.ok) throw new Error(reason(answer.status, await answer.text()));
    page = await answer.json();
  } catch (error) {
    return failed(transfer("Documents"), error.message);
  }
  const rows = page.items.map(row);
  if (from) find("#documents").append(...rows);
  else find("#documents").replaceChildren(...rows);
  shown = from + rows.length;
  find("#count").textContent = page.total === 1 ? "1 file" : `${page.total} files`;
  find("#empty").hidden = page.total > 0;
  find("#more").hidden = shown >= page.total;
}

async function erase(item, node) {
  if (!confirm(`Delete \u201c${item.name}\u201d?`)) return;
  node.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`/documents/${item.id}`, { method: "DELETE" });
    if (!answer.ok && answer.status !== 404) throw new Error(reason(answer.status, await answer.text()));
  } catch (error) {
    failed(transfer(item.name), error.message);
  }
  await list();
  find("#pick").focus();
}

// Sending

function transfer(name) {
  const node = clone("#transfer");
  find(".name", node).textContent = name;
  find("progress", node).setAttribute("aria-label", `Upload of ${name}`);
  find(".dismiss", node).addEventListener("click", () => node.remove());
  find("#transfers").append(node);
  return node;
}

function failed(node, message) {
  node.classList.add("failed");
  find(".state", node).setAttribute("role", "alert");
  find(".state", node).textContent = message;
  find(".dismiss", node).hidden = false;
}

function reason(status, text) {
  try {
    const problem = JSON.parse(text);
    return problem.detail ?? problem.title ?? `The server answered ${status}.`;
  } catch {
    return `The server answered ${status}.`;
  }
}

function send(method, url, file) {
  const node = transfer(file.name);
  const state = find(".state", node);
  const bar = find("progress", node);
  if (file.size > LIMIT) {
    failed(node, `${size(file.size)} is more than the ${size(LIMIT)} allowed.`);
    return Promise.resolve();
  }
  const form = new FormData();
  form.append("name", file.name);
  form.append("file", file);
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      bar.value = loaded / total;
      state.textContent = loaded < total ? `${Math.floor((100 * loaded) / total)} %` : "Storing\u2026";
    });
    request.addEventListener("load", () => {
      if (request.status < 300) node.remove();
      else failed(node, reason(request.status, request.responseText));
    });
    request.addEventListener("error", () => failed(node, "The connection broke. Is the server running?"));
    request.addEventListener("loadend", () => list().then(resolve));
    request.send(form);
  });
}

async function upload(files) {
  for (const file of files) await send("POST", "/documents", file);
}

const drop = find("#drop");
const pick = find("#pick");
pick.addEventListener("change", () => {
  upload([...pick.files]);
  pick.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // a file dropped beside the box would otherwise replace the page
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") upload([...event.dataTransfer.files]);
  });
}
find("#more").addEventListener("click", () => list(shown));
list();
