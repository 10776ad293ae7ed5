/** The models side by side, and what was asked and answered. It stays while other pages are shown, and streams go on. */
import {
  ApiError,
  type ChatMessage,
  ConnectionError,
  ConnectionTimeoutError,
  type GenerateEnd,
  type GenerateInput,
} from '@mlx-training/sdk'
import { computed, effect, type Signal, signal } from '@preact/signals'
import { apiKey, client } from '../../session.ts'
import { requestOf } from './settings.ts'

export const MOST_COLUMNS = 4

export interface Column {
  id: number
  model: string
}

export interface Answer {
  /** The column's at that time. */
  model: string
  state: 'waiting' | 'streaming' | 'done' | 'stopped' | 'failed'
  text: string
  /** About one a token. */
  pieces: number
  /** Milliseconds of performance.now(). */
  askedAt: number
  firstAt: number | null
  lastAt: number | null
  end: GenerateEnd | null
  error: string | null
}

export interface Turn {
  id: number
  prompt: string
  /** By column; one that was added later has none. */
  answers: Record<number, Signal<Answer>>
}

export const columns = signal<Column[]>([])
export const turns = signal<Turn[]>([])
/** What stands in the input. */
export const draft = signal('')
/** Told to screen readers, which streams of text would flood. */
export const announcement = signal('')

const isRunning = ({ state }: Answer) => state === 'waiting' || state === 'streaming'
export const running = computed(() =>
  turns.value.some(({ answers }) => Object.values(answers).some((answer) => isRunning(answer.value))),
)

let next = 1
const streams = new Map<Signal<Answer>, AbortController>()

/** Other models, and a conversation of their own. */
export function begin(models: readonly string[]): void {
  clear()
  columns.value = models.slice(0, MOST_COLUMNS).map((model) => ({ id: next++, model }))
}

export function addColumn(model: string): void {
  columns.value = [...columns.value, { id: next++, model }]
}

export function changeModel(id: number, model: string): void {
  columns.value = columns.value.map((column) => (column.id === id ? { id, model } : column))
}

export function removeColumn(id: number): void {
  for (const { answers } of turns.value) if (answers[id]) stop(answers[id])
  columns.value = columns.value.filter((column) => column.id !== id)
}

export function ask(prompt: string): void {
  const answers = Object.fromEntries(columns.peek().map(({ id, model }) => [id, signal(asked(model))]))
  const turn = { id: next++, prompt, answers }
  turns.value = [...turns.peek(), turn]
  for (const { id } of columns.peek()) void run(turn, id)
}

/** Once more, or for the first time where a column was added later, by the model that the column has now. */
export function answerAgain({ id }: Turn, column: Column): void {
  turns.value = turns
    .peek()
    .map((turn) =>
      turn.id === id ? { ...turn, answers: { ...turn.answers, [column.id]: signal(asked(column.model)) } } : turn,
    )
  const turn = turns.peek().find((candidate) => candidate.id === id)
  if (turn) void run(turn, column.id)
}

/** The question in other words; what came after it is gone. */
export function askInstead({ id }: Turn, prompt: string): void {
  const at = turns.peek().findIndex((turn) => turn.id === id)
  for (const { answers } of turns.peek().slice(at)) for (const answer of Object.values(answers)) stop(answer)
  turns.value = turns.peek().slice(0, at)
  ask(prompt)
}

export function stop(answer: Signal<Answer>): void {
  streams.get(answer)?.abort()
}

export function stopAll(): void {
  for (const stream of streams.values()) stream.abort()
}

export function clear(): void {
  stopAll()
  turns.value = []
  announcement.value = ''
}

// Of another user, who must not see what the one before wrote.
effect(() => {
  if (apiKey.value !== null) return
  clear()
  columns.value = []
  draft.value = ''
})

/** What a column's model is sent for a turn: with the turns before it that were answered there. */
export function requestFor(turn: Turn, column: number, model: string): GenerateInput {
  const all = turns.peek()
  const at = all.findIndex(({ id }) => id === turn.id)
  const before = all.slice(0, at < 0 ? all.length : at).flatMap(({ prompt, answers }): ChatMessage[] => {
    const answer = answers[column]?.peek()
    if (!answer || answer.text === '' || answer.state === 'failed') return []
    return [
      { role: 'user', content: prompt },
      { role: 'assistant', content: answer.text },
    ]
  })
  return requestOf(model, before, turn.prompt)
}

const asked = (model: string): Answer => ({
  model,
  state: 'waiting',
  text: '',
  pieces: 0,
  askedAt: performance.now(),
  firstAt: null,
  lastAt: null,
  end: null,
  error: null,
})

async function run(turn: Turn, column: number): Promise<void> {
  const answer = turn.answers[column]
  if (!answer) return
  const abort = new AbortController()
  streams.set(answer, abort)
  // Pieces come faster than the screen is drawn, and each would render the whole text.
  let text = ''
  let frame = 0
  let { pieces, firstAt, lastAt } = answer.peek()
  const show = (changes: Partial<Answer>) => {
    cancelAnimationFrame(frame)
    frame = 0
    answer.value = { ...answer.peek(), text, pieces, firstAt, lastAt, ...changes }
  }
  const { model } = answer.peek()
  try {
    // Not tried again: whoever waits should see what is wrong, and decide.
    const options = { signal: abort.signal, maxRetries: 0 }
    const stream = client.peek().generate.stream(requestFor(turn, column, model), options)
    for await (const piece of stream) {
      text += piece.text
      pieces++
      lastAt = performance.now()
      firstAt ??= lastAt
      frame ||= requestAnimationFrame(() => show({ state: 'streaming' }))
    }
    show({ state: 'done', end: stream.end })
    announcement.value = `${model} has answered`
  } catch (error) {
    if (abort.signal.aborted) show({ state: 'stopped' })
    else {
      show({ state: 'failed', error: inWords(error) })
      announcement.value = `${model} did not answer: ${inWords(error)}`
    }
  } finally {
    streams.delete(answer)
  }
}

function inWords(error: unknown): string {
  if (error instanceof ApiError) {
    const { message, retryAfter } = error
    return retryAfter ? `${message} (try again in ${Math.ceil(retryAfter)} s)` : message
  }
  if (error instanceof ConnectionTimeoutError) return 'The server has not begun to answer, or fell silent.'
  if (error instanceof ConnectionError) return 'The connection to the server broke off. Is it running?'
  return error instanceof Error ? error.message : String(error)
}
