/** generate and chat. */
import { createInterface } from 'node:readline/promises'
import type { ChatMessage, GenerateInput } from '@mlx-training/sdk'
import { EXIT, Stop } from '../exit.ts'
import pc from '../screen/colours.ts'
import { asJson, harmless, note, say } from '../screen/print.ts'
import type { Session } from '../session.ts'

export interface Sampling {
  model?: string
  system?: string
  temperature?: number
  maxTokens?: number
  seed?: number
}

const fieldsOf = ({ model, temperature, maxTokens, seed }: Sampling): GenerateInput => ({
  ...(model !== undefined && { model }),
  ...(temperature !== undefined && { temperature }),
  ...(maxTokens !== undefined && { max_tokens: maxTokens }),
  ...(seed !== undefined && { seed }),
})

/** `prompt` "-": what stdin has. */
export async function generate({ client, json }: Session, prompt: string, options: Sampling): Promise<void> {
  const text = prompt === '-' ? await readAll() : prompt
  const request = {
    ...fieldsOf(options),
    prompt: text,
    ...(options.system !== undefined && { system: options.system }),
  }
  if (json) return asJson(await client.generate(request))
  const answer = client.generate.stream(request)
  await answer.text((piece) => process.stdout.write(harmless(piece)))
  say()
  const { usage, generation_time_ms: time, finish_reason } = answer.end ?? {}
  if (usage && time)
    note(
      pc.dim(
        `${usage.completion_tokens} tokens, ${((1000 * usage.completion_tokens) / time).toFixed(1)} a second` +
          (finish_reason === 'length' ? ', cut by --max-tokens' : ''),
      ),
    )
}

async function readAll(): Promise<string> {
  let text = ''
  for await (const chunk of process.stdin.setEncoding('utf8')) text += chunk
  if (text.trim() === '') throw new Stop('Nothing came on stdin')
  return text
}

const HELP = `/model NAME   another model goes on with this conversation
/base         beside each answer, also what the base of a fine-tuned model says; again to leave it
/system TEXT  begin anew with a system turn
/clear        begin anew
/quit         or Ctrl-D`

interface Talk {
  messages: ChatMessage[]
  options: Sampling
  /** Also asked, for comparison; its answers are shown and forgotten. */
  base: string | null
}

/** Until /quit or Ctrl-D. Ctrl-C ends an answer, and the talk when there is none. */
export async function chat(session: Session, options: Sampling): Promise<void> {
  if (options.model !== undefined) {
    const problem = await unknownModel(session, options.model)
    if (problem !== null) throw new Stop(problem, EXIT.notFound)
  }
  const lines = createInterface({ input: process.stdin, output: process.stdout, terminal: process.stdin.isTTY })
  const talk: Talk = { messages: opening(options.system), options, base: null }
  let answering: AbortController | null = null
  lines.on('SIGINT', () => (answering ? answering.abort(new Stop('')) : lines.close()))
  note(pc.dim(`${options.model ?? 'The bundled model'} listens. /help tells more`))
  lines.setPrompt(pc.cyan('› '))
  lines.prompt()
  for await (const line of lines) {
    const said = line.trim()
    if (said === '/quit') break
    answering = new AbortController()
    if (said.startsWith('/')) await obey(session, talk, said)
    else if (said !== '') await answer(session, talk, said, answering.signal)
    answering = null
    lines.prompt()
  }
  lines.close()
}

const opening = (system: string | undefined): ChatMessage[] =>
  system === undefined ? [] : [{ role: 'system', content: system }]

async function obey(session: Session, talk: Talk, said: string): Promise<void> {
  const [command = '', ...words] = said.split(/\s+/)
  const rest = words.join(' ')
  if (command === '/model' && rest) {
    const problem = await unknownModel(session, rest)
    if (problem !== null) return note(pc.yellow(problem))
    talk.options = { ...talk.options, model: rest }
  } else if (command === '/clear') talk.messages = opening(talk.options.system)
  else if (command === '/system') {
    talk.options = { ...talk.options, system: rest }
    talk.messages = opening(rest)
  } else if (command === '/base') talk.base = talk.base === null ? await baseOf(session, talk.options.model) : null
  else return note(HELP)
  note(
    pc.dim([talk.options.model ?? 'the bundled model', talk.base && `beside ${talk.base}`].filter(Boolean).join(', ')),
  )
}

/** Why there is nobody to talk to, with who there is; null of a model that is listed, hosted, or named by its folder. */
async function unknownModel({ client }: Session, model: string): Promise<string | null> {
  if (HOSTED.test(model) || PATH.test(model)) return null
  const { models } = await client.models()
  const ids = models.flatMap(({ id, checkpoints }) => [id, ...checkpoints])
  if (ids.includes(model) || ids.includes(revisionless(model))) return null
  return `There is no model "${model}". There are:\n${models.map(({ id }) => `  ${id}`).join('\n')}`
}

/** `org/name@revision` is the same model; a checkpoint of a fine-tuned one is listed. */
const revisionless = (model: string) => (model.startsWith('fine-tuned/') ? model : model.replace(/@.*$/, ''))

const HOSTED = /^(openai|anthropic|together|ollama)\//
const PATH = /^(\/|~\/|\.{1,2}(\/|$))|\.gguf$/i

async function baseOf({ client }: Session, model: string | undefined): Promise<string | null> {
  const { models } = await client.models()
  const name = model?.replace(/@.*$/, '')
  const base = models.find(({ id }) => id === name)?.base_model ?? null
  if (base === null)
    note(pc.yellow(`${model ?? 'The bundled model'} is not fine-tuned: it has no base to stand beside`))
  return base
}

async function answer({ client }: Session, talk: Talk, said: string, signal: AbortSignal): Promise<void> {
  const messages: ChatMessage[] = [...talk.messages, { role: 'user', content: said }]
  const ask = (model: string | undefined) =>
    client.generate
      .stream({ ...fieldsOf({ ...talk.options, ...(model !== undefined && { model }) }), messages }, { signal })
      .text((piece) => process.stdout.write(harmless(piece)))
  try {
    if (talk.base !== null) {
      say(pc.dim(`${talk.base}:`))
      await ask(talk.base)
      say(pc.dim(`\n${talk.options.model}:`))
    }
    const text = await ask(talk.options.model)
    talk.messages = [...messages, { role: 'assistant', content: text }]
  } catch (error) {
    if (!signal.aborted) note(pc.red(error instanceof Error ? error.message : String(error)))
    if (error instanceof Stop && error.code !== EXIT.usage) throw error
  }
  say()
}
