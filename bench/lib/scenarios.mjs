// What is asked of the servers that generate. A scenario takes `ask` of lib/servers.mjs and a number of tokens.
import { round } from './machine.mjs'

export const ADAPTERS = 8
export const RESIDENT = 32
const SWITCHES = 6
const SENTENCE = 'The harbour master wrote down every ship that came in, its cargo and the hour of the tide. '
const PREFIX_SENTENCES = 50 // about 1,000 tokens

/** `adapters`: for servers that have them; `resident`: for ours. */
export const SCENARIOS = {
  ...Object.fromEntries(
    [1, 4, 8, 16].map((n) => [`streams_${n}`, { run: (ask, tokens) => several(ask, Array(n).fill(null), tokens) }]),
  ),
  same_adapter: { adapters: true, run: (ask, tokens) => several(ask, Array(ADAPTERS).fill(0), tokens) },
  different_adapters: { adapters: true, run: (ask, tokens) => several(ask, [...Array(ADAPTERS).keys()], tokens) },
  prefix: { run: prefix },
  adapter_switch: { adapters: true, run: switching },
  resident: { adapters: true, resident: true, run: resident },
}

let asked = 0

/** A prompt begins with its number, so that nothing of it is known from before. */
export function story(adapter, maxTokens) {
  const content = `${++asked}: tell a long story about a harbour, a storm and a lost letter.`
  return { messages: [{ role: 'user', content }], adapter, maxTokens }
}

export async function several(ask, adapters, maxTokens) {
  const start = performance.now()
  const answers = await Promise.all(adapters.map((adapter) => ask(story(adapter, maxTokens))))
  const seconds = (performance.now() - start) / 1000
  const tokens = answers.reduce((sum, answer) => sum + answer.tokens, 0)
  return {
    tokens,
    tokens_per_second: round(tokens / seconds, 1),
    first_token_seconds: round(median(answers.map((answer) => answer.firstSeconds)), 3),
  }
}

async function prefix(ask) {
  const system = `${++asked}. ${SENTENCE.repeat(PREFIX_SENTENCES)}`
  const question = async (content) =>
    await ask({
      messages: [
        { role: 'system', content: system },
        { role: 'user', content },
      ],
      adapter: null,
      maxTokens: 2,
    })
  const miss = await question('Who wrote?')
  const hit = await question('What came in?')
  return {
    prompt_tokens: miss.promptTokens,
    miss_first_token_seconds: round(miss.firstSeconds, 3),
    hit_first_token_seconds: round(hit.firstSeconds, 3),
  }
}

/** One token from an adapter after one from another, less what it takes after one from itself. */
async function switching(ask) {
  const switched = []
  const stayed = []
  for (let i = 0; i < SWITCHES; i++)
    for (const times of [switched, stayed]) times.push((await ask(story(i % 2, 1))).seconds)
  return { milliseconds: round(Math.max(0, median(switched) - median(stayed)) * 1000, 1) }
}

/** Four streams of one adapter, when it alone has been asked for of late and when all have; each twice, the faster counts. */
async function resident(ask, tokens) {
  const four = async () =>
    Math.max(
      (await several(ask, [0, 0, 0, 0], tokens)).tokens_per_second,
      (await several(ask, [0, 0, 0, 0], tokens)).tokens_per_second,
    )
  const one = await four()
  for (let i = 0; i < RESIDENT; i++) await ask(story(i, 1))
  return { few_per_second: one, all_per_second: await four() }
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2
}
