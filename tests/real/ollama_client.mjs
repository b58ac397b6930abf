// The ollama npm package against a server: arguments are its address and a folder with node_modules. Prints what it heard.
import { createRequire } from "node:module";

const { Ollama } = createRequire(`${process.argv[3]}/`)("ollama");
const ollama = new Ollama({ host: process.argv[2] });
const said = {};
const model = (said.models = (await ollama.list()).models.map(({ name }) => name))[0];
said.shown = Object.keys(await ollama.show({ model }));
const messages = [{ role: "user", content: "Say hi" }];
const options = { num_predict: 12, temperature: 0 };
said.parts = [];
for await (const part of await ollama.chat({ model, messages, stream: true, options })) {
  said.parts.push(part.message.content);
  said.last = [part.done, part.done_reason, part.eval_count];
}
said.whole = (await ollama.chat({ model, messages, options })).message.content;
said.running = (await ollama.ps()).models.map(({ name }) => name);
said.text = (await ollama.generate({ model, prompt: "Paris is", options, keep_alive: "10m" })).response;
const format = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
said.held = (await ollama.chat({ model, messages, format, options: { num_predict: 40 } })).message.content;
said.refused = await ollama.pull({ model: "x" }).catch(({ name, message }) => [name, message]);
setTimeout(() => ollama.abort(), 300);
said.left = await (async () => {
  for await (const part of await ollama.generate({ model, prompt: "Once", stream: true, options: { num_predict: 4000 } }))
    said.heard = part.response;
})().catch(({ name }) => name);
console.log(JSON.stringify(said));
