import { type Static, Type } from 'typebox'
import { enumOf, Nullable } from './common.ts'

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
  },
  { $id: 'GenerateRequest', additionalProperties: false },
)
export type GenerateRequest = Static<typeof GenerateRequest>

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
    finish_reason: Nullable(Type.String({ description: 'stop, or length when max_tokens cut it' })),
  },
  { $id: 'GenerateResponse' },
)
export type GenerateResponse = Static<typeof GenerateResponse>

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
        }),
      ),
    }),
  },
  { $id: 'ProvidersResponse' },
)
export type ProvidersResponse = Static<typeof ProvidersResponse>
