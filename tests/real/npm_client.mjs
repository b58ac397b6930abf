// The openai npm package against a server: arguments are the API address and a folder with node_modules. Prints what it heard.
import { createRequire } from "node:module";

const { default: OpenAI } = createRequire(`${process.argv[3]}/`)("openai");

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const model = "scripted";
const said = {};

const runner = client.chat.completions.runTools({
  model,
  messages: [{ role: "user", content: "What is 19 and 23?" }],
  tools: [
    {
      type: "function",
      function: {
        name: "add",
        parse: JSON.parse,
        function: ({ a, b }) => String(a + b),
        parameters: { type: "object", properties: { a: { type: "integer" }, b: { type: "integer" } } },
      },
    },
  ],
  stream: true,
});
said.tools = await runner.finalContent();
said.calls = (await runner.finalFunctionToolCall())?.arguments;

const stream = client.chat.completions.stream({
  model, messages: [{ role: "user", content: "Hi" }], stream_options: { include_usage: true },
});
said.deltas = [];
stream.on("content", (delta) => said.deltas.push(delta));
said.usage = (await stream.finalChatCompletion()).usage.completion_tokens;

const answer = client.responses.stream({ model, input: "Hi" });
said.events = [];
for await (const event of answer) said.events.push(event.type);
said.response = (await answer.finalResponse()).output_text;

const parsed = await client.chat.completions.parse({
  model, messages: [{ role: "user", content: "JSON" }],
  response_format: { type: "json_schema", json_schema: { name: "n", schema: { type: "object" } } },
});
said.parsed = parsed.choices[0].message.parsed;

const error = await client.chat.completions.create({ model: "nobody", messages: [{ role: "user", content: "x" }] })
  .catch((problem) => problem);
said.error = [error.status, error.code, typeof error.requestID];
said.models = (await client.models.list()).data.map(({ id }) => id);
console.log(JSON.stringify(said));
