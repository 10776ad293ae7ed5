// Generated data sets: English prose of changing length, with line breaks and quotes, now and then a sign beyond ASCII.
import { closeSync, openSync, writeSync } from 'node:fs'

const WORDS =
  'the harbour master wrote down every ship that came in its cargo and hour of tide while gulls turned above quiet water where boats lay moored beside old stone steps leading up toward market'.split(
    ' ',
  )
const TOOLS = JSON.stringify([
  {
    name: 'find_ship',
    description: 'Finds a ship',
    parameters: { type: 'object', properties: { name: { type: 'string' } } },
  },
])

/** Writes rows until there are so many bytes. The same ones every time. Returns the size. */
export function writeDataset(path, kind, form, bytes) {
  const random = generator(1)
  const file = openSync(path, 'w')
  const isArray = form === 'json'
  let written = isArray ? writeSync(file, '[\n') : 0
  let pending = ''
  for (let number = 0; written + pending.length < bytes; number++) {
    const row = kind === 'alpaca' ? alpacaRow(number, random) : chatRow(number, random)
    pending += isArray
      ? `${number > 0 ? ',\n' : ''}  ${JSON.stringify(row, null, 2).replaceAll('\n', '\n  ')}`
      : `${JSON.stringify(row)}\n`
    if (pending.length > 1e6) {
      written += writeSync(file, pending)
      pending = ''
    }
  }
  written += writeSync(file, isArray ? `${pending}\n]\n` : pending)
  closeSync(file)
  return written
}

const alpacaRow = (number, random) => ({
  instruction: `Tell ${number} things of ${text(random, 12)}`,
  input: number % 3 === 0 ? text(random, 20) : '',
  output: paragraphs(random, number),
})

const chatRow = (number, random) => ({
  conversations: Array.from({ length: 2 + 2 * (number % 4) }, (_, i) =>
    i % 2 === 0
      ? { from: 'human', value: `${number}: ${text(random, 15)}?` }
      : { from: 'gpt', value: paragraphs(random, number + i) },
  ),
  tools: number % 2 === 0 ? TOOLS : '[]',
})

/** About 120 words in three paragraphs. One in 25 has typographic marks, as in real sets of English. */
function paragraphs(random, number) {
  const parts = [text(random, 50), text(random, 40), `1. "${text(random, 15)}"\n2. ${text(random, 15)}`]
  return `${parts.join('.\n\n')}${number % 25 === 0 ? ' – the captain’s word…' : '.'}`
}

function text(random, about) {
  const count = Math.floor(about / 2 + random() * about)
  return Array.from({ length: count }, () => WORDS[Math.floor(random() * WORDS.length)]).join(' ')
}

/** Numbers from 0 to 1: a linear congruential generator (Numerical Recipes). */
function generator(seed) {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}
