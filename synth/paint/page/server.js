// What is asked of the server. Both ways: four bytes with the length of a JSON text, the text, and the rest.

class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function ask(path, options) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Refused(0, "the server does not answer; is it still running?");
  }
  if (reply.ok) return reply;
  let message = `the server answers with status ${reply.status}`;
  try { message = (await reply.json()).error || message; } catch { /* it said no more */ }
  throw new Refused(reply.status, message);
}

const post = (path, body) => ask(path, { method: "POST", body });
const getJson = async (path) => (await ask(path)).json();

function pack(about, ids) {
  const text = new TextEncoder().encode(JSON.stringify(about)), length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, text.length, true);
  return new Blob([length, text, ids]);
}

async function unpack(reply) {
  if (reply.status === 204) return null; // a newer painting takes its place
  const buffer = await reply.arrayBuffer(), length = new DataView(buffer).getUint32(0, true);
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { about, rest: buffer.slice(4 + length) };
}
