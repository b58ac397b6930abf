// Vercel's AI SDK against a server: arguments are the API address and a folder with node_modules. Prints what it heard.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.argv[3]}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { generateText, streamText, tool, stepCountIs, Output } = await load("ai");
const { createOpenAI } = await load("@ai-sdk/openai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { z } = await load("zod");

const baseURL = process.argv[2];
const openai = createOpenAI({ baseURL, apiKey: "none" });
const compatible = createOpenAICompatible({ baseURL, name: "octavo", includeUsage: true, supportsStructuredOutputs: true });
const add = tool({
  description: "The sum of two numbers.",
  inputSchema: z.object({ a: z.number(), b: z.number() }),
  execute: async ({ a, b }) => String(a + b),
});
const said = {};
for (const [name, model] of Object.entries({
  responses: openai("scripted"), chat: openai.chat("scripted"), compatible: compatible("scripted"),
})) {
  const options = { model, maxRetries: 0 };
  const called = await generateText({ ...options, prompt: "Add.", tools: { add }, stopWhen: stepCountIs(3) });
  const stream = streamText({ ...options, prompt: "Hi" });
  const deltas = [];
  for await (const delta of stream.textStream) deltas.push(delta);
  const output = Output.object({ schema: z.object({ n: z.number() }) });
  said[name] = {
    tools: called.text,
    calls: called.steps[0].toolCalls.map(({ input }) => input),
    deltas,
    finish: await stream.finishReason,
    tokens: (await stream.usage).outputTokens,
    object: (await generateText({ ...options, prompt: "JSON", output })).output,
    error: (await generateText({ ...options, prompt: "Hi", temperature: 9 }).catch((problem) => problem)).statusCode,
  };
}
console.log(JSON.stringify(said));
