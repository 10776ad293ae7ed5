/** Log-probabilities in the forms of chat completions and of completions. */
import type { ChatLogprobs, CompletionLogprobs, TokenLogprob } from '@mlx-training/contract'

export const chatLogprobs = (told: readonly TokenLogprob[]): ChatLogprobs => ({
  content: told.map(({ text, logprob, top }) => ({
    ...likely(text, logprob),
    top_logprobs: top.map(({ text, logprob }) => likely(text, logprob)),
  })),
  refusal: null,
})

const likely = (token: string, logprob: number) => ({ token, logprob, bytes: bytesOf(token) })

/** A token can be a part of a character, whose text doesn't tell its bytes. */
const bytesOf = (token: string) => (token.includes('\ufffd') ? null : [...Buffer.from(token)])

/** `offset`: characters of the text before these tokens. */
export function completionLogprobs(told: readonly TokenLogprob[], offset: number): CompletionLogprobs {
  let at = offset
  return {
    tokens: told.map(({ text }) => text),
    token_logprobs: told.map(({ logprob }) => logprob),
    top_logprobs: told.map(({ top }) => Object.fromEntries(top.map(({ text, logprob }) => [text, logprob]))),
    text_offset: told.map(({ text }) => {
      const start = at
      at += text.length
      return start
    }),
  }
}

export const lengthOf = (told: readonly TokenLogprob[]): number =>
  told.reduce((length, { text }) => length + text.length, 0)
