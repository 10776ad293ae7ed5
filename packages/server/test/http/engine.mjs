#!/usr/bin/env node
// An engine process for tests of the HTTP service: speaks the real protocol, computes nothing. Its generations echo the
// last user turn; "wait" as the prompt holds the answer back until it is cancelled, whose arrival is told on stderr.
import { createWriteStream } from 'node:fs'
import { createInterface } from 'node:readline'

const module = process.argv[3]
const frames = createWriteStream('', { fd: 3 })
const send = (frame) => frames.write(`${JSON.stringify(frame)}\n`)

send({
  type: 'hello',
  protocol: 1,
  pid: process.pid,
  device: 'cpu',
  backend: 'echo',
  dtype: 'float32',
  gflops: 200,
  mlx_version: '0',
  mlx_lm_version: '0',
})

if (module === 'mlx_engine.serve') {
  const alive = setInterval(() => send({ type: 'alive', memory_mb: 1 }), 2000)
  const input = createInterface({ input: process.stdin })
  input.on('line', (line) => {
    const command = JSON.parse(line)
    const { id } = command
    if (command.type === 'generate') answer(command)
    if (command.type === 'cancel')
      send({ type: 'done', id, text: '', finish_reason: 'cancelled', prompt_tokens: 1, completion_tokens: 0 })
  })
  input.on('close', () => clearInterval(alive))
}

function answer({ id, messages, prompt, max_tokens }) {
  const text = prompt ?? messages.map(({ role, content }) => `${role}: ${content}`).join('\n')
  if (text.endsWith('wait')) return
  send({
    type: 'done',
    id,
    text: `echo ${text}`,
    finish_reason: 'stop',
    prompt_tokens: text.length,
    completion_tokens: max_tokens,
  })
}
