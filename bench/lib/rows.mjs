// Rows of an Alpaca file as the snapshot that our engine reads; mlx_lm.lora and the PyTorch peers read the same file.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { Stop } from '../../scripts/lib.mjs'

/** Conversations of a JSON array of {instruction, input?, output}. */
export function readAlpaca(path) {
  let rows
  try {
    rows = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw new Stop(`${path} is no Alpaca file: ${error.message}`)
  }
  if (!Array.isArray(rows) || rows.length < 2) throw new Stop(`${path} is no Alpaca file: an array of rows is needed`)
  return rows.map(({ instruction, input, output }, i) => {
    if (!instruction || !output) throw new Stop(`${path}, row ${i}: instruction and output are needed`)
    return conversation(input ? `${instruction}\n\n${input}` : instruction, output)
  })
}

export const conversation = (question, answer) => [
  { role: 'user', content: question },
  { role: 'assistant', content: answer },
]

/** Rows in a fixed random order; the first `heldOut` of them apart, the rest repeated until there are `count`. */
export function choose(conversations, count, heldOut) {
  const order = conversations
    .map((row, i) => ({ row, key: createHash('sha256').update(String(i)).digest('hex') }))
    .sort((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ row }) => row)
  const apart = order.slice(0, Math.min(heldOut, Math.floor(order.length / 4)))
  const rest = order.slice(apart.length)
  return { train: Array.from({ length: count }, (_, i) => rest[i % rest.length]), heldOut: apart }
}

/** Writes a snapshot; returns {path, sha256}. */
export function writeSnapshot(path, conversations) {
  const text = conversations.map((messages, sample) => `${JSON.stringify({ sample, messages })}\n`).join('')
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
  return { path, sha256: createHash('sha256').update(text).digest('hex') }
}
