import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { PreviewResponse, ValidateResponse } from '@mlx-training/contract'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ALPACA, MODEL, makeTinyModel, PYTHON, ROOT, Server, SHAREGPT, workFolder } from './support.ts'

// What training would make of rows, through the built server and the real engine, against a count of our own: the template
// written out by hand, and Hugging Face's tokenizers alone.
const COUNT = `
import json, sys
from tokenizers import Tokenizer
file, tokenizer = sys.argv[1:]
tokenizer = Tokenizer.from_file(tokenizer)
ids = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
rows = []
for row in json.load(open(file)):
    if "instruction" in row:
        asked = row["instruction"] + ("\\n\\n" + row["input"] if row.get("input") else "")
        turns = [("user", asked), ("assistant", row["output"])]
    else:
        turns = [(ROLES[turn["from"]], turn["value"]) for turn in row["conversations"]]
    if turns[0][0] != "system":
        turns.insert(0, ("system", SYSTEM))
    text, trained, needed = "", 0, 0
    for role, content in turns:
        text += f"<|im_start|>{role}\\n"
        before = len(ids(text))
        text += content + "<|im_end|>"
        if role == "assistant":
            needed = len(ids(text))
            trained += needed - before
        text += "\\n"
    rows.append({"ids": ids(text), "trained": trained, "needed": needed, "answer": turns[-1][1]})
print(json.dumps(rows))
`
interface Counted {
  ids: number[]
  trained: number
  needed: number
  answer: string
}
const sum = (numbers: number[]) => numbers.reduce((total, each) => total + each, 0)

const folder = workFolder()
let server: Server
beforeAll(async () => {
  server = await Server.start(folder.path)
}, 60_000)
afterAll(async () => {
  await server.stop()
  folder.remove()
}, 60_000)

async function validate(body: object): Promise<ValidateResponse> {
  const answer = await server.request<ValidateResponse>('POST', '/datasets/validate', body)
  expect(answer.status, JSON.stringify(answer.body)).toBe(200)
  return answer.body
}
async function preview(body: object): Promise<PreviewResponse> {
  const answer = await server.request<PreviewResponse>('POST', '/datasets/preview', body)
  expect(answer.status, JSON.stringify(answer.body)).toBe(200)
  return answer.body
}
const inFolder = (name: string, rows: object[]) => {
  const path = join(folder.path, name)
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
  return path
}

test.each([
  ['Alpaca', ALPACA],
  ['ShareGPT', SHAREGPT],
])(
  '%s rows: the report, the masks and the trainer have the tokens that they should',
  async (name, file) => {
    const tokenizer = join(ROOT, '.models', MODEL, 'tokenizer.json')
    const rows: Counted[] = JSON.parse(execFileSync(PYTHON, ['-c', COUNT, file, tokenizer], { encoding: 'utf8' }))
    const settings = { max_seq_length: 512, batch_size: 3 }
    const { supervision } = await validate({ file_path: file, model_name: MODEL, ...settings })
    const trained = sum(rows.map((row) => row.trained))
    const needed = sum(rows.map((row) => row.needed))
    const total = sum(rows.map(({ ids }) => ids.length))
    expect(supervision?.tokens).toEqual({ total, trained, masked: needed - trained, cut: 0, unused: total - needed })
    const longest = rows.reduce((best, { needed: length }, i) => (length > (rows[best]?.needed ?? 0) ? i : best), 0)
    expect(supervision).toMatchObject({
      rows: rows.length,
      used_rows: rows.length,
      examples: rows.length,
      cut_rows: 0,
      rows_without_supervision: 0,
      rows_missing_end: 0,
      rows_doubled_bos: 0,
      lengths: { max: rows[longest]?.needed, min: Math.min(...rows.map((row) => row.needed)) },
      refusal: null,
    })
    expect(supervision?.opening).toContain('SmolLM, trained by Hugging Face')

    const samples = [0, longest, rows.length - 1]
    for (const { sample, texts, problem } of (
      await preview({ file_path: file, model_name: MODEL, samples, max_seq_length: 512 })
    ).rows) {
      const row = rows[sample] as Counted
      const [text] = texts
      expect(problem).toBeNull()
      expect(text?.pieces.flatMap(({ ids }) => ids)).toEqual(row.ids)
      const learned = text?.pieces.filter(({ state }) => state === 'trained') ?? []
      expect(sum(learned.map(({ ids }) => ids.length))).toBe(row.trained)
      expect(learned.map((piece) => piece.text).join('')).toMatch(/<\|im_end\|>$/)
      expect(learned.map((piece) => piece.text).join('')).toContain(row.answer)
    }

    const started = await server.request('POST', '/train/start', {
      experiment_name: name,
      model_name: MODEL,
      max_steps: 1,
      lora: { use_lora: true, lora_r: 4 },
      dataset: { dataset_path: file, ...settings },
    })
    expect(started.status, JSON.stringify(started.body)).toBe(200)
    const prepared = (await server.events(name, 0, ({ type }) => type === 'prepared')).at(-1)
    await server.request('POST', `/train/${name}/stop`)
    expect(prepared?.data).toMatchObject({
      trained_tokens: trained,
      tokens: needed,
      steps_per_epoch: supervision?.steps_per_epoch,
      packing: supervision?.packing,
    })
  },
  240_000,
)

test('rows that are cut, and rows of which nothing is learned, are told with their numbers', async () => {
  const said = (output: string, instruction = 'Say it well now') => ({ instruction, output })
  const rows = [
    ...Array.from({ length: 8 }, (_, i) => said('It is said.', `Say number ${i} aloud`)),
    said('long '.repeat(200)),
    said('Never reached.', 'long '.repeat(200)),
    said(''),
  ]
  const file = inFolder('cut.jsonl', rows)
  const asked = { file_path: file, model_name: MODEL, max_seq_length: 96, batch_size: 4 }
  const { supervision, warnings } = await validate(asked)
  expect(supervision).toMatchObject({ rows: 11, used_rows: 10, cut_rows: 1, rows_without_supervision: 1, limit: 96 })
  const found = new Map(supervision?.findings.map(({ code, samples }) => [code, samples]))
  expect(found.get('cut_answers')).toEqual([8])
  expect(found.get('no_room_for_answer')).toEqual([9])
  expect(warnings).toEqual(expect.arrayContaining(supervision?.warnings ?? ['none']))
  const { rows: shown } = await preview({ ...asked, batch_size: undefined, samples: [8, 9, 10] })
  const states = shown.map(({ texts }) => texts[0]?.tokens)
  // The end token of a cut answer stays; of an empty one it is all that is learned.
  expect(shown[0]?.texts[0]?.pieces.filter(({ state }) => state === 'trained').at(-1)?.text).toBe('<|im_end|>')
  expect((states[0]?.trained ?? 0) + (states[0]?.masked ?? 0)).toBe(96)
  expect(states[1]).toMatchObject({ trained: 0, masked: 0 })
  expect(shown[1]?.problem).toMatch(/no room for the answer/)
  expect(states[2]?.trained).toBe(1)
  expect(sum(states.map((each) => each?.cut ?? 0))).toBe(supervision?.tokens.cut)
}, 120_000)

test('a template that hides the system turn, doubles BOS and ends no turn is told of, row by row', async () => {
  const template =
    "{{ bos_token }}{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] }}\n{% endif %}{% endfor %}"
  makeTinyModel(join(folder.path, 'odd'), { chat_template: template })
  const turns = (...values: string[]) => values.map((value, i) => ({ from: i % 2 === 0 ? 'human' : 'gpt', value }))
  const file = inFolder('odd.jsonl', [
    { conversations: turns('Hi there', 'Hello') },
    { conversations: turns('Hi there again', 'Hello'), system: 'Be brief.' },
    { conversations: turns('<|bos|>Hi once more', 'Hello') },
    { conversations: turns('One', 'Two', 'Three', 'Four') },
  ])
  const asked = { file_path: file, model_name: './odd', max_seq_length: 64, batch_size: 2 }
  const { supervision } = await validate(asked)
  const found = new Map(supervision?.findings.map(({ code, samples }) => [code, samples]))
  expect(found.get('system_in_user_turn')).toEqual([1])
  expect(found.get('doubled_bos')).toEqual([2])
  expect(found.get('missing_end_token')).toEqual([3])
  expect(found.get('no_end_token')).toEqual([0, 1, 2, 3])
  expect(supervision).toMatchObject({ rows_doubled_bos: 1, rows_missing_end: 1, steps_per_epoch: 2, batch_size: 2 })
  const [shown] = (await preview({ ...asked, batch_size: undefined, samples: [1] })).rows
  expect(shown?.notes.map(({ code }) => code)).toContain('system_in_user_turn')
  expect(shown?.texts[0]?.parts.map(({ text }) => text).join('')).toContain('Be brief.')
}, 120_000)

test('padding and steps are those of the batches that were asked for', async () => {
  // Eight rows of one length and eight of another: batches of one row have none.
  const rows = Array.from({ length: 16 }, (_, i) => ({
    text: i % 2 === 0 ? 'a b c' : 'a b c d e f g h i j k l m n o p',
  }))
  const file = inFolder('padding.jsonl', rows)
  const told = async (batch_size: number) =>
    (await validate({ file_path: file, model_name: MODEL, max_seq_length: 64, batch_size })).supervision
  const [one, four] = [await told(1), await told(4)]
  expect(one).toMatchObject({ steps_per_epoch: 16, padding_share_unpacked: 0 })
  expect(four).toMatchObject({ batch_size: 4, cached: true })
  expect(four?.padding_share_unpacked).toBeGreaterThanOrEqual(0)
  expect(four?.padding_share_unpacked).toBeLessThan(1)
  if (!four?.packing) expect(four?.steps_per_epoch).toBe(4)
}, 120_000)
