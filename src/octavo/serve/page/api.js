/**
 * The part of OpenAI's API that the page speaks: the list of models and streamed chat completions.
 *
 * Every failure becomes an `ApiError` whose message is a sentence for the reader; nothing else is thrown, but for the
 * AbortError of a request that the reader stopped. Addresses are relative, so that the page works below a prefix.
 */

import { readEvents } from "./sse.js";

/**
 * @typedef {{id: string, context: number | null, parameters: number | null}} Model
 * @typedef {{prompt_tokens: number, completion_tokens: number}} Usage
 * @typedef {{token: string, logprob: number}} Likelihood natural logarithm
 * @typedef {Likelihood & {top_logprobs: Likelihood[]}} Token
 * @typedef {{index: number, id?: string, name?: string, arguments: string}} CallPiece the id and name come first
 * @typedef {{text?: string, thought?: string, call?: CallPiece, tokens?: Token[], finish?: string, usage?: Usage}} Piece
 * @typedef {"unreachable" | "key" | "refused" | "busy" | "server" | "broken"} ErrorKind
 */

const KEY = "octavo.key";
const KEPT = "v1/page/conversations";

export class ApiError extends Error {
  /**
   * @param {ErrorKind} kind
   * @param {string} message
   */
  constructor(kind, message) {
    super(message);
    this.name = "ApiError";
    this.kind = kind;
  }
}

/** Keep the key for this tab only; it is gone when the tab closes. @param {string} key */
export function keepKey(key) {
  sessionStorage.setItem(KEY, key);
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

/**
 * The models that the server has.
 * @returns {Promise<Model[]>}
 */
export async function listModels() {
  const response = await request("v1/models", {});
  const body = await jsonOf(response);
  if (!Array.isArray(body?.data)) throw new ApiError("broken", "The server's list of models cannot be read.");
  return body.data.map((/** @type {any} */ row) => ({
    id: String(row.id),
    context: row.context_length ?? null,
    parameters: row.parameters ?? null,
  }));
}

/**
 * A chat completion, piece by piece. Leaving the loop, or aborting the signal, closes the connection, and the server
 * stops generating.
 * @param {Record<string, unknown>} body the request without `stream`
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<Piece>}
 */
export async function* streamChat(body, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.body) throw new ApiError("broken", "The server sent no answer.");
  try {
    for await (const { data } of readEvents(response.body)) {
      if (data === "[DONE]") return;
      yield* piecesOf(data);
    }
  } catch (error) {
    if (error instanceof ApiError || signal.aborted) throw error;
    throw new ApiError("broken", "The connection to the server broke before the answer was complete.");
  }
  throw new ApiError("broken", "The server closed the connection before the answer was complete.");
}

/**
 * Tell the server what the reader thinks of an answer; rating null takes it back.
 * @param {{id: string, model?: string, messages: unknown[], completion: string}} answer
 * @param {"up" | "down" | null} rating
 */
export async function rate(answer, rating) {
  const headers = { "Content-Type": "application/json" };
  if (rating === null) await request(`v1/feedback/${answer.id}`, { method: "DELETE" });
  else await request("v1/feedback", { method: "POST", headers, body: JSON.stringify({ ...answer, rating }) });
}

/** The server's conversations. @returns {Promise<{id: string, updated: number}[]>} */
export async function listKept() {
  const body = await jsonOf(await request(KEPT, {}));
  if (!Array.isArray(body?.data)) throw new ApiError("broken", "The server's conversations cannot be read.");
  return body.data;
}

/** @param {string} id */
export async function fetchKept(id) {
  return jsonOf(await request(`${KEPT}/${id}`, {}));
}

/** @param {{id: string}} conversation */
export async function keepOnServer(conversation) {
  const headers = { "Content-Type": "application/json" };
  await request(`${KEPT}/${conversation.id}`, { method: "PUT", headers, body: JSON.stringify(conversation) });
}

/** @param {string} id */
export async function deleteKept(id) {
  await request(`${KEPT}/${id}`, { method: "DELETE" });
}

/**
 * @param {string} data one event's JSON
 * @returns {Generator<Piece>}
 */
function* piecesOf(data) {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new ApiError("broken", "The server sent a piece of the answer that cannot be read.");
  }
  if (chunk.error) throw new ApiError("server", sentence(chunk.error.message) || "The server failed while answering.");
  const choice = chunk.choices?.[0];
  if (choice?.delta?.reasoning_content) yield { thought: choice.delta.reasoning_content };
  if (choice?.delta?.content) yield { text: choice.delta.content };
  for (const { index, id, function: called } of choice?.delta?.tool_calls ?? []) {
    yield { call: { index, id, name: called.name, arguments: called.arguments ?? "" } };
  }
  if (choice?.logprobs?.content) yield { tokens: choice.logprobs.content };
  if (choice?.finish_reason) yield { finish: choice.finish_reason };
  if (chunk.usage) yield { usage: chunk.usage };
}

/**
 * @param {string} path
 * @param {RequestInit} options
 * @returns {Promise<Response>} always a success
 */
export async function request(path, options) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key === null ? {} : { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError("unreachable", "The server does not answer. Start it with “octavo serve”, then try again.");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

/** @param {Response} response */
async function errorOf(response) {
  const said = sentence((await jsonOf(response).catch(() => null))?.error?.message);
  if (response.status === 401) {
    return new ApiError("key", hasKey() ? "The server does not accept this key." : "This server asks for a key.");
  }
  if (response.status === 429) {
    const seconds = Number(response.headers.get("Retry-After"));
    const wait = seconds > 0 ? ` Try again in ${seconds} s.` : " Try again in a moment.";
    return new ApiError("busy", `The server is busy.${wait}`);
  }
  if (response.status === 503) return new ApiError("busy", said || "The server is still loading.");
  if (response.status >= 500) return new ApiError("server", said || `The server failed (${response.status}).`);
  return new ApiError("refused", said || `The server refused the request (${response.status}).`);
}

/** @param {Response} response */
export async function jsonOf(response) {
  try {
    return await response.json();
  } catch {
    throw new ApiError("broken", "The server's answer cannot be read. Is this address Octavo's?");
  }
}

/** A server's message as a sentence. @param {unknown} message */
function sentence(message) {
  if (typeof message !== "string" || message.trim() === "") return "";
  const text = message.trim();
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
