#!/usr/bin/env node
// An engine process for tests of the HTTP service: speaks the real protocol, computes nothing. Its generations echo the
// last user turn; "wait" as the prompt holds the answer back until it is cancelled, whose arrival is told on stderr; "full"
// finds the queue full, "break" fails after a token. Its estimates are of 7000 s for 90,000 tokens an epoch; seed 1234567
// holds them back, which is told on stderr. Its evaluations: see evaluate. Its inspections refuse max_seq_length 1013, and hold 1014 back until it is cancelled.
import { createWriteStream, existsSync, writeFileSync } from 'node:fs'
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
  kernels: 'fused kernels (avx512): attention',
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
    if (command.type === 'cancel') {
      console.error(`cancelled ${id}`)
      done(id, '', { finish_reason: 'cancelled', prompt_tokens: 1, completion_tokens: 0 })
    }
  })
  input.on('close', () => clearInterval(alive))
}

if (module === 'mlx_engine.estimate') {
  const input = createInterface({ input: process.stdin })
  input.on('line', (line) => {
    const { seed, epochs } = JSON.parse(line)
    send({ type: 'warning', code: 'w', message: 'careful' })
    if (seed === 1_234_567) return console.error('holding')
    send({
      type: 'estimated',
      total_steps: 250 * epochs,
      steps_per_epoch: 250,
      samples: 1000,
      samples_dropped: 0,
      samples_truncated: 5,
      tokens: 90_000,
      trained_tokens: 50_000,
      longest_sample: 512,
      padding_share: 0.02,
      measured_steps: 3,
      seconds: 7000,
      seconds_per_step: 9.3,
      tokens_per_second: 39,
      peak_memory_mb: 2100,
      available_memory_mb: 16_000,
      fits: true,
      advice: ['rest'],
      trainable_params: 16,
      total_params: 256,
      target_modules: ['q_proj'],
    })
    frames.end(() => process.exit(0))
  })
  input.on('close', () => process.exit(0))
}

if (module === 'mlx_engine.evaluate') {
  const alive = setInterval(() => send({ type: 'alive', memory_mb: 1 }), 2000)
  const input = createInterface({ input: process.stdin })
  input.on('line', (line) => evaluate(JSON.parse(line)))
  input.on('close', () => clearInterval(alive))
}

// A row's loss is its number and a quarter, with an adapter its number, for each of four tokens.
function evaluate({ dataset, adapter_path, max_samples, seed, memory_level }) {
  console.error(`evaluate ${adapter_path} level ${memory_level}`)
  const { max_seq_length: limit } = dataset
  send({ type: 'stage', stage: 'loading_model', done: 0, total: 0 })
  if (limit === 1013) return failed({ kind: 'invalid_dataset', message: 'nothing would be learned of any row' })
  if (limit === 1014) return send({ type: 'stage', stage: 'evaluating', done: 1, total: 4 })
  if (limit === 1015 && adapter_path) return failed({ kind: 'invalid_model', message: 'no adapter' })
  if (limit === 1017 && !existsSync(`${dataset.path}.tried`)) {
    writeFileSync(`${dataset.path}.tried`, '')
    return frames.end(() => process.kill(process.pid, 'SIGTERM'))
  }
  if (limit === 1018) return frames.end(() => process.kill(process.pid, 'SIGTERM'))
  if (limit === 1016 && memory_level < 2) {
    send({ type: 'stage', stage: 'evaluating', done: 1, total: 4 })
    return frames.end(() => process.kill(process.pid, 'SIGSEGV'))
  }
  const samples = Array.from({ length: max_samples ?? 6 }, (_, i) => i)
  const broken = seed === 1_234_568
  send({
    type: 'scored',
    samples,
    trained: samples.map(() => 4),
    correct: samples.map(() => (adapter_path ? 3 : 2)),
    losses: samples.map((i) => (broken && i === 1 ? null : 4 * (i + (adapter_path ? 0 : 0.25)))),
  })
  send({
    type: 'evaluated',
    rows: samples.length,
    rows_dropped: 1,
    rows_truncated: 0,
    trained_tokens: 4 * samples.length,
    loss: 2,
    token_accuracy: 0.5,
    seconds: 0.1,
  })
  frames.end(() => process.exit(0))
}

function failed(error) {
  send({ type: 'error', id: null, traceback: null, ...error })
  frames.end(() => process.exit(1))
}

if (module === 'mlx_engine.inspect') {
  const input = createInterface({ input: process.stdin })
  const alive = setInterval(() => send({ type: 'alive', memory_mb: 1 }), 2000)
  input.on('line', (line) => inspect(JSON.parse(line)))
  input.on('close', () => clearInterval(alive))
}

function inspect({ type, id, dataset, samples }) {
  if (type === 'cancel') {
    console.error(`cancelled ${id}`)
    return send({ type: 'inspected', id, report: null })
  }
  console.error(`${type} ${dataset.path}`)
  const { max_seq_length: limit, batch_size } = dataset
  if (limit === 1013)
    return send({ type: 'error', id, kind: 'invalid_model', message: 'no tokenizer', traceback: null })
  if (limit === 1014) return
  if (type === 'preview') {
    const rows = samples.map((sample) => ({ sample, problem: 'gone', notes: [], texts: [] }))
    return send({ type: 'previewed', id, json: JSON.stringify(rows), more: false })
  }
  const message = '1 row (sample 3): the answer goes on'
  const report = {
    rows: 3,
    used_rows: 3,
    cut_rows: 1,
    rows_without_supervision: 0,
    rows_missing_end: 0,
    rows_doubled_bos: 0,
    examples: 3,
    tokens: { total: 10, trained: 4, masked: 3, cut: 2, unused: 1 },
    lengths: null,
    longest: [{ sample: 3, tokens: 9 }],
    limit,
    suggested_max_seq_length: 64,
    suggestion: 'holds every row',
    batch_size,
    steps_per_epoch: 1,
    padding_share: 0,
    padding_share_unpacked: 0.1,
    packing: true,
    chat_template: true,
    opening: '',
    findings: [{ code: 'cut_answers', rows: 1, samples: [3], message }],
    refusal: dataset.truncation === 'error' ? 'one is too long' : null,
    cached: false,
  }
  send({ type: 'inspected', id, report })
}

function answer({ id, messages, prompt, max_tokens, logprobs }) {
  const text = prompt ?? messages.map(({ role, content }) => `${role}: ${content}`).join('\n')
  const token = (text) => {
    const told = logprobs == null ? null : [{ id: text.length, text, logprob: -0.5, top: [] }]
    send({ type: 'token', id, text, index: 0, logprobs: told })
  }
  if (text.endsWith('full'))
    return send({ type: 'error', id, kind: 'busy', message: 'full', traceback: null, retry_after: 2.5 })
  for (const piece of ['echo ', text]) token(piece)
  if (text.endsWith('wait')) return
  if (text.endsWith('break')) return send({ type: 'error', id, kind: 'internal', message: 'lost', traceback: null })
  done(id, `echo ${text}`, { finish_reason: 'stop', prompt_tokens: text.length, completion_tokens: max_tokens })
}

function done(id, text, { finish_reason, prompt_tokens, completion_tokens }) {
  const choices = [{ text, finish_reason, completion_tokens }]
  const timing = { queue_seconds: 0, prefill_seconds: 0, decode_seconds: 0 }
  send({ type: 'done', id, ...choices[0], prompt_tokens, cached_tokens: 0, choices, timing })
}
