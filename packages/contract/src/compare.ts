/** POST /compare: the same prompts to several models, side by side. */
import { type Static, Type } from 'typebox'
import { Nullable } from './common.ts'
import { ErrorBody } from './errors.ts'
import { GenerateRequest } from './generate.ts'

export const COMPARED_MODELS = 8
export const COMPARED_ITEMS = 50

const { prompt, messages, system, raw, max_tokens, stop, seed } = GenerateRequest.properties

const question = {
  prompt,
  messages,
  system,
  reference: Type.Optional(
    Type.String({ maxLength: 100_000, description: 'A good answer; with it every answer is scored' }),
  ),
}

/** A model as /generate names it, its provider as a prefix. */
export const ComparedModel = Type.String({ minLength: 1, maxLength: 4096 })

export const CompareRequest = Type.Object(
  {
    models: Type.Array(ComparedModel, {
      minItems: 1,
      maxItems: COMPARED_MODELS,
      description: 'Local models, fine-tuned/NAME[@step-N] or PROVIDER/MODEL, each as in /generate',
    }),
    ...question,
    items: Type.Optional(
      Type.Array(Type.Object(question, { additionalProperties: false }), {
        minItems: 1,
        maxItems: COMPARED_ITEMS,
        description: 'Several prompts, instead of prompt or messages; `system` then stands before each that has none',
      }),
    ),
    raw,
    max_tokens,
    temperature: Type.Number({ default: 0, minimum: 0, maximum: 2, description: '0 is greedy and deterministic' }),
    top_p: Type.Number({ default: 1, exclusiveMinimum: 0, maximum: 1 }),
    stop,
    seed,
    stream: Type.Boolean({
      default: false,
      description:
        'Answer as server-sent events: one `data: {"item", "answer"}` for each, as they come, then the summary',
    }),
  },
  { $id: 'CompareRequest', additionalProperties: false },
)
export type CompareRequest = Static<typeof CompareRequest>

const share = (description: string) => Type.Number({ minimum: 0, maximum: 1, description })

/** Of an answer against its reference, or their means over several. */
export const TextScores = Type.Object({
  exact_match: share('1: the same but for case, Unicode form, white space and punctuation around'),
  rouge_1: share('F1 of words, in any order; SQuAD calls it token F1'),
  rouge_2: share('F1 of pairs of words'),
  rouge_l: share('F1 of the longest common subsequence of words'),
  chrf: share('chrF2: F-score of 1 to 6 characters, as sacrebleu has it, over 100'),
})
export type TextScores = Static<typeof TextScores>

export const ComparedAnswer = Type.Object({
  model: Type.String(),
  provider: Nullable(Type.String({ description: 'Class-like name; null: the model could not be asked' })),
  text: Nullable(Type.String({ description: 'null: it failed, see error' })),
  finish_reason: Nullable(Type.String({ description: 'stop, or length when max_tokens cut it' })),
  prompt_tokens: Nullable(Type.Integer()),
  completion_tokens: Nullable(Type.Integer()),
  first_token_ms: Nullable(Type.Number({ description: 'From the question to the first text, waiting included' })),
  total_ms: Nullable(Type.Number()),
  tokens_per_second: Nullable(Type.Number({ description: 'completion_tokens by total_ms' })),
  cost: Nullable(Type.Number({ description: 'Where prices are configured; null: not known' })),
  scores: Nullable(TextScores),
  error: Nullable(
    Type.Object(
      {
        detail: Type.String(),
        status_code: Type.Integer(),
        error_type: Type.String(),
        reason: ErrorBody.properties.reason,
        retry_after: Type.Optional(Type.Number({ description: 'Seconds; what Retry-After would have been' })),
      },
      {
        description: 'What /generate would have answered',
      },
    ),
  ),
})
export type ComparedAnswer = Static<typeof ComparedAnswer>

export const ComparedSummary = Type.Object({
  model: Type.String(),
  answered: Type.Integer(),
  failed: Type.Integer(),
  prompt_tokens: Type.Integer(),
  completion_tokens: Type.Integer(),
  first_token_ms: Nullable(Type.Number({ description: 'Median' })),
  total_ms: Nullable(Type.Number({ description: 'Median' })),
  tokens_per_second: Nullable(Type.Number({ description: 'Median' })),
  cost: Nullable(Type.Number({ description: 'In all' })),
  scored: Type.Integer({ description: 'Answers that have a reference' }),
  scores: Nullable(TextScores),
})
export type ComparedSummary = Static<typeof ComparedSummary>

export const CompareResponse = Type.Object(
  {
    models: Type.Array(Type.String()),
    items: Type.Array(
      Type.Object({
        item: Type.Integer({ description: 'Its number, from 0' }),
        reference: Nullable(Type.String()),
        answers: Type.Array(ComparedAnswer, { description: 'In the order of models' }),
      }),
    ),
    summary: Type.Array(ComparedSummary, { description: 'In the order of models' }),
  },
  { $id: 'CompareResponse' },
)
export type CompareResponse = Static<typeof CompareResponse>

/** With `stream: true`. */
export const CompareEvent = Type.Union(
  [
    Type.Object({ item: Type.Integer(), answer: ComparedAnswer }),
    Type.Object({ summary: Type.Array(ComparedSummary) }),
  ],
  { $id: 'CompareEvent' },
)
export type CompareEvent = Static<typeof CompareEvent>
