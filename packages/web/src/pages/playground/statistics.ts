/** What an answer took: counts and speed, while it comes and when it is there. */
import type { Tone } from '../../components/badge.tsx'
import { count, number } from '../../format.ts'
import type { Answer } from './conversation.ts'

export interface Statistics {
  facts: { text: string; meaning: string }[]
  outcome: { text: string; tone: Tone } | null
}

export function statisticsOf(answer: Answer): Statistics {
  return { facts: answer.end ? measured(answer) : soFar(answer), outcome: outcomeOf(answer) }
}

/** As the server has counted and timed it. */
function measured({ end, askedAt, firstAt }: Answer): Statistics['facts'] {
  if (!end) return []
  const { usage, timing, generation_time_ms, cost } = end
  const seconds = timing ? timing.decode_seconds : generation_time_ms / 1000
  const speed = usage.completion_tokens / seconds
  return [
    { text: `${count(usage.completion_tokens)} tokens`, meaning: 'Tokens of the answer' },
    ...(Number.isFinite(speed) ? [{ text: perSecond(speed), meaning: 'Tokens of the answer a second' }] : []),
    { text: `${number(generation_time_ms / 1000, 3)} s`, meaning: 'Time for the whole answer, waiting included' },
    ...(firstAt === null
      ? []
      : [{ text: `first after ${number((firstAt - askedAt) / 1000, 2)} s`, meaning: 'Time to the first piece of it' }]),
    ...(usage.prompt_tokens === null
      ? []
      : [
          {
            text: `prompt ${count(usage.prompt_tokens)}${usage.cached_tokens ? `, ${count(usage.cached_tokens)} cached` : ''}`,
            meaning: 'Tokens of the prompt, with all that was said before',
          },
        ]),
    ...(cost ? [{ text: `${number(cost.total, 2)} ${cost.currency}`, meaning: 'By the configured prices' }] : []),
  ]
}

/** Pieces are about tokens, and their times those of this browser. */
function soFar({ pieces, firstAt, lastAt }: Answer): Statistics['facts'] {
  if (pieces === 0) return []
  const seconds = ((lastAt ?? 0) - (firstAt ?? 0)) / 1000
  return [
    { text: `≈ ${count(pieces)} tokens`, meaning: 'Tokens of the answer so far' },
    ...(pieces > 1 && seconds > 0
      ? [{ text: `≈ ${perSecond((pieces - 1) / seconds)}`, meaning: 'Tokens of the answer a second' }]
      : []),
  ]
}

const perSecond = (speed: number) => `${speed < 10 ? speed.toFixed(1) : Math.round(speed)} tok/s`

function outcomeOf({ state, end }: Answer): Statistics['outcome'] {
  if (state === 'stopped') return { text: 'stopped', tone: 'neutral' }
  if (state === 'failed') return { text: 'failed', tone: 'bad' }
  if (state !== 'done') return null
  switch (end?.finish_reason) {
    case 'stop':
      return { text: 'finished', tone: 'good' }
    case 'length':
      return { text: 'cut at max tokens', tone: 'warning' }
    case 'content_filter':
      return { text: 'rest withheld by the provider', tone: 'warning' }
    default:
      return { text: end?.finish_reason ?? 'ended', tone: 'neutral' }
  }
}
