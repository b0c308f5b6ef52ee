// Sends files: three at a time, straight to the store or in a form, and each of them can be cancelled and tried again.

const AT_ONCE = 3;
const POLICY = "document.file";

export const NO_HINTS = { accept: "", max_size: null, direct: false };

/** What went wrong, in words; `again` says whether it may go well another time. */
export class Failure extends Error {
  constructor(message, { again = false, status = 0 } = {}) {
    super(message);
    Object.assign(this, { again, status });
  }
}

/** An answer that is no success as a failure: the server says why in a problem document (RFC 9457). */
export function failure(status, text) {
  let detail;
  try {
    const problem = JSON.parse(text);
    detail = problem.detail ?? problem.title;
  } catch {} // a store answers in XML
  return new Failure(detail ?? `The server answered ${status}.`, {
    again: status >= 500 || [403, 408, 409, 410, 429].includes(status),
    status,
  });
}

/** What the column accepts. The server decides all the same; whoever asks first need not wait for its no. */
export async function hints() {
  try {
    const answer = await fetch(`/files/policies/${POLICY}`);
    return answer.ok ? await answer.json() : NO_HINTS;
  } catch {
    return NO_HINTS;
  }
}

/** Why a file would be refused; nothing where it would not, or where only the server can tell. */
export function objection(file, { accept, max_size: most }) {
  if (most !== null && file.size > most) return `It has ${size(file.size)}, and ${size(most)} are allowed.`;
  const name = file.name.toLowerCase();
  const taken = accept.split(",").some((kind) => {
    if (kind.startsWith(".")) return name.endsWith(kind);
    return !file.type || kind === "" || (kind.endsWith("/*") ? file.type.startsWith(kind.slice(0, -1)) : file.type === kind);
  });
  return taken ? undefined : `Files of this kind are not taken. These are: ${accept.replaceAll(",", ", ")}`;
}

export function size(bytes) {
  if (bytes < 1000) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  const unit = Math.min(Math.floor(Math.log10(bytes) / 3), 4);
  return `${(bytes / 1000 ** unit).toFixed(bytes < 10 * 1000 ** unit ? 1 : 0)} ${["", "kB", "MB", "GB", "TB"][unit]}`;
}

/** One request: the text of its answer. `fetch` would be nicer, and tells nothing of what has been sent. */
function request(method, url, body, { signal, headers = {}, onProgress = () => {} }) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const xhr = new XMLHttpRequest();
    xhr.open(method, url);
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
    xhr.upload.addEventListener("progress", ({ loaded, total }) => onProgress(total ? loaded / total : 1));
    xhr.addEventListener("load", () => {
      if (xhr.status < 300) resolve(xhr.responseText);
      else reject(failure(xhr.status, xhr.responseText));
    });
    // A store that does not allow this page to send to it (CORS) is no different here from one that is down.
    xhr.addEventListener("error", () => {
      reject(new Failure(`There is no connection to ${new URL(url, location).host}.`, { again: true }));
    });
    xhr.addEventListener("abort", () => reject(signal.reason));
    signal.addEventListener("abort", () => xhr.abort());
    xhr.send(body);
  });
}

/** Ask where the file may go, and send it there: the id to hand in. */
async function sendDirectly(file, options) {
  const asked = JSON.stringify({ filename: file.name, size: file.size, content_type: file.type || null, policy: POLICY });
  const headers = { "content-type": "application/json" };
  const ticket = JSON.parse(await request("POST", "/files/uploads", asked, { signal: options.signal, headers }));
  await request(ticket.method, ticket.url, file, { ...options, headers: ticket.headers });
  return ticket.id;
}

/** A file on its way to `POST /documents`, or to `PATCH` of one. Tells `onChange` of every step. */
export class Transfer {
  progress = 0;
  state = "waiting"; // then sending, storing, and done, failed or cancelled
  error = null;
  #abort = new AbortController();
  #id = null;

  constructor(file, { method = "POST", url = "/documents", direct, onChange }) {
    Object.assign(this, { file, method, url, direct, onChange });
  }

  async run() {
    if (this.state !== "waiting") return; // cancelled meanwhile
    const { signal } = this.#abort;
    const onProgress = (progress) => this.#become(progress < 1 ? "sending" : "storing", progress);
    try {
      this.#become("sending");
      const form = new FormData();
      if (this.method === "POST") form.append("name", this.file.name);
      if (this.direct) {
        // What the store has already need not be sent again when only the last step failed.
        this.#id ??= await sendDirectly(this.file, { signal, onProgress });
        this.#become("storing", 1);
        form.append("file", this.#id);
        await request(this.method, this.url, form, { signal });
      } else {
        form.append("file", this.file);
        await request(this.method, this.url, form, { signal, onProgress });
      }
      this.#become("done", 1);
    } catch (error) {
      if (error.status > 0 && error.status < 500) this.#id = null;
      this.error = error;
      this.#become(signal.aborted ? "cancelled" : "failed");
    }
  }

  cancel() {
    this.#abort.abort(new Failure("Cancelled.", { again: true }));
    if (this.state === "waiting") {
      this.error = this.#abort.signal.reason;
      this.#become("cancelled");
    }
  }

  /** As new, to be put into a queue. */
  reset() {
    this.#abort = new AbortController();
    this.error = null;
    this.#become("waiting", 0);
  }

  #become(state, progress = this.progress) {
    Object.assign(this, { state, progress });
    this.onChange(this);
  }
}

/** Runs transfers, a few at a time, in the order in which they come. */
export class Queue {
  #waiting = [];
  #running = 0;

  get isBusy() {
    return this.#running > 0;
  }

  add(transfer) {
    this.#waiting.push(transfer);
    this.#next();
  }

  #next() {
    while (this.#running < AT_ONCE && this.#waiting.length) {
      this.#running += 1;
      this.#waiting.shift().run().finally(() => {
        this.#running -= 1;
        this.#next();
      });
    }
  }
}
