import { type ProviderName, ServiceError } from '@mlx-training/contract'
import type { Extra, GenerateInput } from './port.ts'

/** A field without effect asks for nothing, so that it harms nobody. */
const NEUTRAL: Required<Omit<Extra, 'logprobs' | 'tools' | 'response_format'>> = {
  top_k: 0,
  min_p: 0,
  repetition_penalty: 1,
  presence_penalty: 0,
  frequency_penalty: 0,
  n: 1,
}

/** What is to be sent of `extra` to a provider that takes these fields. ServiceError('invalid_parameters') naming a field
 *  that it can't honour: an answer that silently left it out would not be the one that was asked for. */
export function passed(name: ProviderName, { extra = {} }: GenerateInput, takes: readonly (keyof Extra)[]): Extra {
  const asked = Object.entries(extra).filter(
    ([field, value]) => value !== undefined && value !== (NEUTRAL as Record<string, number>)[field],
  ) as [keyof Extra, number][]
  for (const [field, given] of asked) {
    if (takes.includes(field)) continue
    const message = `${name} does not take it through this service: leave it out, or use a local model`
    throw new ServiceError('invalid_parameters', `${field}: ${message}`, { errors: [{ field, message, given }] })
  }
  return Object.fromEntries(asked)
}
