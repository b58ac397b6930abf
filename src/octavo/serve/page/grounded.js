/**
 * The part of OpenAI's API that is about documents: files, vector stores, and answers that rest on them.
 */

import { ApiError, jsonOf, request } from "./api.js";
import { readEvents } from "./sse.js";

/**
 * @typedef {{id: string, name: string, done: number, failed: number, total: number, busy: boolean, shared: boolean,
 *   own: boolean}} Collection `own`: the page's; `shared`: a folder of the server's
 * @typedef {{id: string, name: string, status: string, progress: number | null, problem: string}} StoredFile
 * @typedef {{number: number, file: string, collection: string, name: string, start: number, end: number,
 *   page: number | null, line: number | null, text: string}} Citation `number`: in the answer's marks; `start`, `end`:
 *   characters of the document's text; `text`: exactly those
 */

const MINE = "My documents";
const JSON_HEADERS = { "Content-Type": "application/json" };

/** @returns {Promise<Collection[]>} the oldest first */
export async function listCollections() {
  const { data } = await fetchJson("v1/vector_stores?limit=100&order=asc");
  return data.filter((/** @type {any} */ row) => row.status !== "expired").map(asCollection);
}

/** Make the page's own. @returns {Promise<Collection>} */
export async function makeCollection() {
  return asCollection(await post("v1/vector_stores", { name: MINE, metadata: { made_by: "page" } }));
}

/**
 * @param {string} collection
 * @param {number} limit
 * @returns {Promise<StoredFile[]>} the newest first
 */
export async function listFiles(collection, limit) {
  const { data } = await fetchJson(`v1/vector_stores/${collection}/files?limit=${limit}`);
  return data.map((/** @type {any} */ row) => ({
    id: row.id,
    name: row.filename ?? row.id,
    status: row.status,
    progress: row.progress ?? null,
    problem: row.last_error?.message ?? "",
  }));
}

/**
 * Send a file and have it indexed.
 * @param {string} collection
 * @param {File} file
 */
export async function addFile(collection, file) {
  const form = new FormData();
  form.append("purpose", "assistants");
  form.append("file", file);
  const { id } = await jsonOf(await request("v1/files", { method: "POST", body: form }));
  await post(`v1/vector_stores/${collection}/files`, { file_id: id });
}

/** @param {string} id */
export async function removeFile(id) {
  await request(`v1/files/${id}`, { method: "DELETE" });
}

/**
 * The text that citations count characters in.
 * @param {string} collection
 * @param {string} file
 * @returns {Promise<string>}
 */
export async function documentText(collection, file) {
  const { data } = await fetchJson(`v1/vector_stores/${collection}/files/${file}/content`);
  return data.map((/** @type {any} */ part) => part.text).join("");
}

/**
 * An answer that rests on documents, piece by piece, as `streamChat` gives one.
 * @param {Record<string, any>} body a chat request
 * @param {string[]} collections
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<import("./api.js").Piece & {citation?: Citation}>}
 */
export async function* streamGrounded(body, collections, signal) {
  const response = await request("v1/responses", {
    method: "POST", headers: JSON_HEADERS, body: JSON.stringify(asResponse(body, collections)), signal,
  });
  if (!response.body) throw new ApiError("broken", "The server sent no answer.");
  let text = "";
  try {
    for await (const { data } of readEvents(response.body)) {
      const event = JSON.parse(data);
      if (event.type === "response.output_text.delta") text += event.delta;
      if (event.type === "response.output_text.delta") yield { text: event.delta };
      if (event.type === "response.reasoning_text.delta") yield { thought: event.delta };
      if (event.type === "response.output_text.annotation.added") yield { citation: asCitation(event.annotation, text) };
      if (event.type === "response.completed" || event.type === "response.incomplete") {
        yield* ending(event.response);
        return;
      }
      if (event.type === "response.failed" || event.type === "error") {
        throw new ApiError("server", event.response?.error?.message ?? "The server failed while answering.");
      }
    }
  } catch (error) {
    if (error instanceof ApiError || signal.aborted) throw error;
  }
  throw new ApiError("broken", "The connection to the server broke before the answer was complete.");
}

/** @param {any} response @returns {Generator<import("./api.js").Piece>} */
function* ending({ status, usage }) {
  yield { usage: { prompt_tokens: usage.input_tokens, completion_tokens: usage.output_tokens } };
  yield { finish: status === "completed" ? "stop" : "length" };
}

/**
 * A chat request in the words of the other API; forms and tools have no place in an answer from documents.
 * @param {Record<string, any>} body
 * @param {string[]} collections
 */
function asResponse(body, collections) {
  const { messages, max_completion_tokens: longest, response_format, tools, logprobs, top_logprobs, ...rest } = body;
  const spoken = messages.filter((/** @type {any} */ { role, content }) => role !== "tool" && content !== "");
  return {
    ...rest,
    input: spoken.map((/** @type {any} */ { role, content }) => ({ role, content })),
    tools: [{ type: "file_search", vector_store_ids: collections }],
    stream: true,
    store: false,
    ...(longest ? { max_output_tokens: longest } : {}),
  };
}

/**
 * @param {any} annotation
 * @param {string} text the answer so far: it ends with the mark
 * @returns {Citation}
 */
function asCitation({ file_id: file, filename: name, span }, text) {
  const number = Number(/\[(\d+)\]\s*$/.exec(text)?.[1] ?? 0);
  const { vector_store_id: collection, start, end, page, line, text: quoted } = span;
  return { number, file, collection, name, start, end, page, line, text: quoted };
}

/** @param {any} row @returns {Collection} */
function asCollection({ id, name, status, file_counts: counts, metadata }) {
  const { completed: done, failed, total } = counts;
  const own = metadata?.made_by === "page";
  return { id, name: name || id, done, failed, total, own, busy: status === "in_progress",
    shared: metadata?.made_by === "folder" };
}

/** @param {string} path */
async function fetchJson(path) {
  return jsonOf(await request(path, {}));
}

/**
 * @param {string} path
 * @param {unknown} body
 */
async function post(path, body) {
  return jsonOf(await request(path, { method: "POST", headers: JSON_HEADERS, body: JSON.stringify(body) }));
}
