/** What is sent with every question: the system prompt and the parameters, as they stand in their inputs. */
import type { ChatMessage, GenerateInput } from '@mlx-training/sdk'
import { computed, signal } from '@preact/signals'

interface Parameter {
  label: string
  hint: string
  min: number
  max: number
  step: number
  whole?: boolean
  /** The lowest value is not one of them. */
  above?: boolean
  /** As the service has it; empty: not sent. */
  initial: string
  slider?: boolean
}

/** With the limits of GenerateRequest. */
export const PARAMETERS = {
  temperature: {
    label: 'Temperature',
    hint: '0 always takes the likeliest token',
    min: 0,
    max: 2,
    step: 0.05,
    initial: '0.7',
    slider: true,
  },
  top_p: {
    label: 'Top p',
    hint: 'Only the likeliest tokens with this probability in all',
    min: 0,
    above: true,
    max: 1,
    step: 0.05,
    initial: '0.9',
    slider: true,
  },
  max_tokens: {
    label: 'Max tokens',
    hint: 'An answer that is longer is cut',
    min: 1,
    max: 131_072,
    step: 1,
    whole: true,
    initial: '256',
  },
  seed: {
    label: 'Seed',
    hint: 'The same answer again; empty: another each time',
    min: 0,
    max: 4_294_967_295,
    step: 1,
    whole: true,
    initial: '',
  },
  top_k: {
    label: 'Top k',
    hint: 'Only so many of the likeliest tokens',
    min: 0,
    max: 1_000_000,
    step: 1,
    whole: true,
    initial: '',
  },
  min_p: {
    label: 'Min p',
    hint: 'Only tokens with this share of the likeliest one’s probability',
    min: 0,
    max: 1,
    step: 0.01,
    initial: '',
  },
  repetition_penalty: {
    label: 'Repetition penalty',
    hint: '1: none',
    min: 0,
    above: true,
    max: 10,
    step: 0.05,
    initial: '',
  },
  presence_penalty: {
    label: 'Presence penalty',
    hint: 'For tokens that the answer has',
    min: -2,
    max: 2,
    step: 0.1,
    initial: '',
  },
  frequency_penalty: {
    label: 'Frequency penalty',
    hint: 'The same, each time',
    min: -2,
    max: 2,
    step: 0.1,
    initial: '',
  },
} as const satisfies Record<string, Parameter>
export type ParameterName = keyof typeof PARAMETERS
export const parameterOf = (name: ParameterName): Parameter => PARAMETERS[name]

const NAMES = Object.keys(PARAMETERS) as ParameterName[]

export interface Settings extends Record<ParameterName, string> {
  system: string
  /** One sequence a line. */
  stop: string
  /** Without a chat template: the text is gone on with. */
  raw: boolean
}

const INITIAL: Settings = {
  ...(Object.fromEntries(NAMES.map((name) => [name, parameterOf(name).initial])) as Record<ParameterName, string>),
  system: '',
  stop: '',
  raw: false,
}

export const settings = signal<Settings>(INITIAL)
export const changed = computed(() => JSON.stringify(settings.value) !== JSON.stringify(INITIAL))

export function change(changes: Partial<Settings>): void {
  settings.value = { ...settings.value, ...changes }
}

export function reset(): void {
  settings.value = INITIAL
}

/** What is wrong with a field, in words; null: nothing. */
export function problemOf(name: ParameterName, text: string): string | null {
  const { min, max, whole, above, initial } = parameterOf(name)
  if (text.trim() === '') return initial === '' ? null : 'Enter a number'
  const value = Number(text)
  if (!Number.isFinite(value)) return 'Enter a number'
  if (whole && !Number.isInteger(value)) return 'Enter a whole number'
  if (value < min || value > max || (above && value === min))
    return above ? `More than ${min}, at most ${max}` : `From ${min} to ${max.toLocaleString('en')}`
  return null
}

export const valid = computed(() => NAMES.every((name) => problemOf(name, settings.value[name]) === null))

/** The request for a model's answer to `prompt`, after what was said before. */
export function requestOf(model: string, before: readonly ChatMessage[], prompt: string): GenerateInput {
  const { system, stop, raw, ...numbers } = settings.peek()
  const given = NAMES.filter((name) => numbers[name].trim() !== '')
  const sequences = stop.split('\n').filter((line) => line !== '')
  return {
    model,
    ...(raw
      ? { prompt, raw: true }
      : {
          messages: [
            ...(system.trim() === '' ? [] : [{ role: 'system' as const, content: system }]),
            ...before,
            { role: 'user' as const, content: prompt },
          ],
        }),
    ...Object.fromEntries(given.map((name) => [name, Number(numbers[name])])),
    ...(sequences.length > 0 && { stop: sequences }),
  }
}
