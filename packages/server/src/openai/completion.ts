/** A request for completions → what a provider is asked for, once for each prompt. */
import type { CompletionRequest } from '@mlx-training/contract'
import type { GenerateInput } from '../providers/port.ts'
import { extra, refused, sampling } from './request.ts'

/** OpenAI's default. */
const MAX_TOKENS = 16

/** ServiceError('unprocessable') that names a field which can't be honoured. */
export function completionInputs(body: CompletionRequest): Omit<GenerateInput, 'model'>[] {
  if (body.suffix) throw refused('suffix', 'is not supported: the models here write what follows a text')
  if (body.best_of != null && body.best_of !== (body.n ?? 1))
    throw refused('best_of', 'is not supported: leave it out, or ask for n')
  if (body.echo && body.logprobs != null) throw refused('echo', "can not be had with logprobs: a prompt's are not told")
  return promptsOf(body).map((prompt) => ({
    messages: null,
    prompt,
    maxTokens: body.max_tokens ?? MAX_TOKENS,
    ...sampling(body),
    extra: extra(body, body.logprobs ?? null),
  }))
}

export function promptsOf({ prompt }: CompletionRequest): string[] {
  const prompts: unknown[] = [prompt].flat()
  const at = prompts.findIndex((text) => typeof text !== 'string' || text === '')
  if (at < 0) return prompts as string[]
  const field = Array.isArray(prompt) ? `prompt.${at}` : 'prompt'
  throw refused(
    field,
    prompts[at] === ''
      ? 'must not be empty'
      : 'must be text: token ids are not taken, as they mean nothing without a tokenizer',
  )
}
