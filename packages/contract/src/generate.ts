import { type Static, Type } from 'typebox'
import { enumOf, Nullable, Timestamp } from './common.ts'

/** Names in requests and in `available_providers`, in the seed's order. */
export const PROVIDERS = ['openai', 'anthropic', 'together', 'ollama', 'local_mlx'] as const
export type ProviderName = (typeof PROVIDERS)[number]

/** Class-like names in answers. */
export const PROVIDER_CLASS = {
  openai: 'OpenAIProvider',
  anthropic: 'AnthropicProvider',
  together: 'TogetherProvider',
  ollama: 'OllamaProvider',
  local_mlx: 'LocalMLXProvider',
} as const satisfies Record<ProviderName, string>

export const ChatMessage = Type.Object(
  {
    role: enumOf(['system', 'user', 'assistant', 'tool'] as const),
    content: Type.String(),
  },
  { additionalProperties: false },
)
export type ChatMessage = Static<typeof ChatMessage>

/** As chat templates take it: the arguments are an object where they are one, and not its JSON. */
export const ToolCall = Type.Object({
  id: Type.String(),
  type: Type.Literal('function'),
  function: Type.Object({ name: Type.String(), arguments: Type.Unknown() }),
})
export type ToolCall = Static<typeof ToolCall>

/** `{"type": "function", "function": {"name", "description", "parameters": JSON Schema}}` */
export const ToolDescription = Type.Record(Type.String(), Type.Unknown())
export type ToolDescription = Static<typeof ToolDescription>

/** As in OpenAI's API. */
export const ResponseFormat = Type.Object(
  {
    type: enumOf(['text', 'json_object', 'json_schema'] as const),
    json_schema: Type.Optional(
      Type.Object(
        {
          name: Type.Optional(Type.String({ maxLength: 64 })),
          description: Type.Optional(Type.String()),
          schema: Type.Record(Type.String(), Type.Unknown(), { description: 'JSON Schema, up to 64 KiB' }),
          strict: Type.Optional(Type.Union([Type.Boolean(), Type.Null()])),
        },
        { additionalProperties: false },
      ),
    ),
  },
  {
    additionalProperties: false,
    description: 'The form of the answer. Local models keep to a schema token by token, strict or not',
  },
)
export type ResponseFormat = Static<typeof ResponseFormat>

export const GenerateRequest = Type.Object(
  {
    prompt: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'Sent as a user turn through the chat template',
      }),
    ),
    messages: Type.Optional(
      Type.Array(ChatMessage, {
        minItems: 1,
        description: 'A conversation, instead of prompt',
      }),
    ),
    system: Type.Optional(
      Type.String({
        description:
          'A system turn before prompt. Left out (or no system turn in messages), a fine-tuned model whose training rows ' +
          'all began with one gets that; "" means none',
      }),
    ),
    raw: Type.Boolean({
      default: false,
      description: 'Continue prompt as plain text, without a chat template',
    }),
    model: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 4096,
        description:
          'A local model, fine-tuned/NAME[@step-N], or PROVIDER/MODEL; left out, the bundled model. local_mlx/ forces local.',
      }),
    ),
    provider: Type.Optional(enumOf(PROVIDERS)),
    max_tokens: Type.Integer({ default: 256, minimum: 1, maximum: 131072 }),
    temperature: Type.Number({
      default: 0.7,
      minimum: 0,
      maximum: 2,
      description: '0 is greedy and deterministic',
    }),
    top_p: Type.Number({ default: 0.9, exclusiveMinimum: 0, maximum: 1 }),
    stop: Type.Optional(
      Type.Union([Type.String({ minLength: 1 }), Type.Array(Type.String({ minLength: 1 }), { maxItems: 16 })]),
    ),
    seed: Type.Optional(Type.Integer({ minimum: 0, maximum: 4294967295 })),
    stream: Type.Boolean({
      default: false,
      description:
        'Answer as server-sent events: `data: {"text", "index"}` for each piece, at last one with finish_reason and usage',
    }),
    top_k: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 1_000_000, description: 'Only so many of the likeliest tokens; 0: all' }),
    ),
    min_p: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 1,
        description: "Only tokens with this share of the likeliest one's probability",
      }),
    ),
    repetition_penalty: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 10,
        description: '1: none. Makes tokens of the prompt and of the answer so far less likely',
      }),
    ),
    presence_penalty: Type.Optional(
      Type.Number({ minimum: -2, maximum: 2, description: 'Off the logit of every token that the answer has' }),
    ),
    frequency_penalty: Type.Optional(
      Type.Number({ minimum: -2, maximum: 2, description: 'The same, for each time that it has it' }),
    ),
    logprobs: Type.Optional(Type.Boolean({ description: "Tell each token's log-probability" })),
    top_logprobs: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 20, description: 'Beside it those of so many of the likeliest' }),
    ),
    n: Type.Optional(Type.Integer({ minimum: 1, maximum: 8, description: 'So many answers to the one prompt' })),
    response_format: Type.Optional(ResponseFormat),
  },
  { $id: 'GenerateRequest', additionalProperties: false },
)
export type GenerateRequest = Static<typeof GenerateRequest>

const LikelyToken = {
  id: Type.Integer(),
  text: Type.String(),
  logprob: Type.Number({ description: 'Natural logarithm, before temperature and penalties' }),
}
export const TokenLogprob = Type.Object({ ...LikelyToken, top: Type.Array(Type.Object(LikelyToken)) })
export type TokenLogprob = Static<typeof TokenLogprob>

const Timing = Type.Object({
  queue_seconds: Type.Number(),
  prefill_seconds: Type.Number(),
  decode_seconds: Type.Number(),
})

export const Cost = Type.Object(
  {
    input: Type.Number(),
    output: Type.Number(),
    total: Type.Number(),
    currency: Type.String(),
  },
  {
    description:
      'By the configured prices (MLX_TRAINING_PRICES); left out without one, or where the provider tells no usage',
  },
)
export type Cost = Static<typeof Cost>

export const GenerateResponse = Type.Object(
  {
    text: Type.String(),
    model: Type.String(),
    provider: Type.String({
      description: 'Class-like name, e.g. LocalMLXProvider',
    }),
    tokens_generated: Type.Integer(),
    generation_time_ms: Type.Integer(),
    prompt_tokens: Nullable(Type.Integer()),
    finish_reason: Nullable(
      Type.String({
        description: 'stop, length when max_tokens cut it, content_filter when a provider withheld the rest',
      }),
    ),
    cached_tokens: Type.Optional(
      Type.Integer({ description: 'Of the prompt, known from before; left out by providers that do not tell' }),
    ),
    cost: Type.Optional(Cost),
    timing: Type.Optional(Timing),
    logprobs: Type.Optional(Type.Array(TokenLogprob)),
    choices: Type.Optional(
      Type.Array(
        Type.Object({
          text: Type.String(),
          finish_reason: Nullable(Type.String()),
          logprobs: Type.Optional(Type.Array(TokenLogprob)),
        }),
        { description: 'All answers, when n is more than 1; text is the first' },
      ),
    ),
  },
  { $id: 'GenerateResponse' },
)
export type GenerateResponse = Static<typeof GenerateResponse>

export const GeneratePiece = Type.Object({
  text: Type.String(),
  index: Type.Integer({ description: 'Which of the n answers' }),
  logprobs: Type.Optional(Type.Array(TokenLogprob)),
})
export type GeneratePiece = Static<typeof GeneratePiece>

export const GenerateEnd = Type.Object({
  finish_reason: Nullable(Type.String()),
  finish_reasons: Type.Optional(Type.Array(Nullable(Type.String()), { description: 'Of all, when n is more than 1' })),
  usage: Type.Object({
    prompt_tokens: Nullable(Type.Integer()),
    completion_tokens: Type.Integer(),
    cached_tokens: Nullable(Type.Integer()),
  }),
  model: Type.String(),
  provider: Type.String(),
  tokens_generated: Type.Integer(),
  generation_time_ms: Type.Integer(),
  timing: Type.Optional(Timing),
  cost: Type.Optional(Cost),
})
export type GenerateEnd = Static<typeof GenerateEnd>

/** With `stream: true`: pieces, then the end; or, as `event: error`, the body of an error answer. */
export const GenerateEvent = Type.Union([GeneratePiece, GenerateEnd], { $id: 'GenerateEvent' })
export type GenerateEvent = Static<typeof GenerateEvent>

/** What is known of a provider. unchecked: it has what it needs, and has not been asked yet. */
export const PROVIDER_STATES = ['available', 'unchecked', 'no_key', 'bad_key', 'unreachable', 'not_ready'] as const
export type ProviderState = (typeof PROVIDER_STATES)[number]

export const ProvidersResponse = Type.Object(
  {
    available_providers: Type.Array(Type.String()),
    current_provider: Type.Object({
      active_provider: Type.String(),
      available_providers: Type.Array(
        Type.Object({
          name: Type.String(),
          available: Type.Boolean(),
          reason: Type.Optional(
            Type.String({
              description: 'Why it is not available, and what to set',
            }),
          ),
          state: enumOf(PROVIDER_STATES),
          checked_at: Nullable(Timestamp),
          models: Type.Optional(
            Type.Array(Type.String(), {
              description:
                'What it says it has, at most 500; of local ones GET /models tells. Left out when not known, or when a key ' +
                'is asked for everywhere, as this path is open',
            }),
          ),
        }),
      ),
    }),
  },
  { $id: 'ProvidersResponse' },
)
export type ProvidersResponse = Static<typeof ProvidersResponse>
