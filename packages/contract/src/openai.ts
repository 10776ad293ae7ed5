/** OpenAI's chat completions, completions and models, as far as they are served under /v1. Unknown fields are let through
 *  and have no effect, as at OpenAI's own servers. https://platform.openai.com/docs/api-reference */
import { type Static, Type } from 'typebox'
import { enumOf, Nullable, orNull } from './common.ts'

/** Errors of its items are told one by one, which those of a union are not. */
const textOr = <T>(type: 'array' | 'object', rest: object) =>
  Type.Unsafe<T>({ type: ['string', type, 'null'], ...rest })

const sampling = {
  model: Type.String({
    minLength: 1,
    maxLength: 4096,
    description: 'As in /generate: a local model, fine-tuned/NAME[@step-N], or PROVIDER/MODEL',
  }),
  stream: orNull(Type.Boolean()),
  stream_options: orNull(
    Type.Object({ include_usage: orNull(Type.Boolean({ description: 'A last chunk with usage and no choices' })) }),
  ),
  n: orNull(Type.Integer({ minimum: 1, maximum: 8 })),
  stop: Type.Optional(
    textOr<string | string[] | null>('array', {
      minLength: 1,
      items: { type: 'string', minLength: 1 },
      maxItems: 16,
    }),
  ),
  seed: orNull(Type.Integer({ minimum: -(2 ** 63), maximum: 2 ** 63 })),
  temperature: orNull(Type.Number({ minimum: 0, maximum: 2, description: '1 when left out' })),
  top_p: orNull(Type.Number({ minimum: 0, maximum: 1, description: '1 when left out' })),
  presence_penalty: orNull(Type.Number({ minimum: -2, maximum: 2 })),
  frequency_penalty: orNull(Type.Number({ minimum: -2, maximum: 2 })),
  top_k: orNull(Type.Integer({ minimum: -1, maximum: 1_000_000, description: 'Beside OpenAI’s; 0 or -1: all' })),
  min_p: orNull(Type.Number({ minimum: 0, maximum: 1, description: 'Beside OpenAI’s' })),
  repetition_penalty: orNull(
    Type.Number({ exclusiveMinimum: 0, maximum: 10, description: 'Beside OpenAI’s; 1: none' }),
  ),
  logit_bias: orNull(Type.Object({}, { description: 'Refused unless empty' })),
}

const TextPart = Type.Object({
  type: Type.String({ description: 'text; nothing else is taken' }),
  text: Type.Optional(Type.String()),
})
export type TextPart = Static<typeof TextPart>

/** Of an assistant's answer and of a turn that tells one again; `arguments` is JSON text. */
export const ChatToolCall = Type.Object({
  id: Type.String(),
  type: enumOf(['function'] as const),
  function: Type.Object({ name: Type.String(), arguments: Type.String() }),
})
export type ChatToolCall = Static<typeof ChatToolCall>

const Message = Type.Object({
  role: enumOf(['developer', 'system', 'user', 'assistant', 'tool'] as const),
  content: Type.Optional(textOr<string | TextPart[] | null>('array', { items: TextPart })),
  tool_calls: orNull(Type.Array(ChatToolCall)),
  tool_call_id: orNull(Type.String()),
  name: orNull(Type.String()),
})
export type ChatCompletionMessage = Static<typeof Message>

const Tool = Type.Object({
  type: enumOf(['function'] as const),
  function: Type.Object({
    name: Type.String({
      pattern: '^[a-zA-Z0-9_.-]{1,64}$',
      description: 'letters, digits, "_", "-" and ".", at most 64',
    }),
    description: orNull(Type.String()),
    parameters: orNull(Type.Object({}, { description: 'JSON Schema' })),
  }),
})

export const ChatCompletionRequest = Type.Object(
  {
    ...sampling,
    messages: Type.Array(Message, { minItems: 1 }),
    max_completion_tokens: orNull(Type.Integer({ minimum: 1, maximum: 131072 })),
    max_tokens: orNull(
      Type.Integer({ minimum: 1, maximum: 131072, description: 'The same; left out, up to the context window' }),
    ),
    logprobs: orNull(Type.Boolean()),
    top_logprobs: orNull(Type.Integer({ minimum: 0, maximum: 20 })),
    tools: orNull(Type.Array(Tool, { maxItems: 128, description: 'Shown to the model by its chat template' })),
    tool_choice: Type.Optional(
      textOr<string | object | null>('object', {
        description: '"auto", "none", "required" or {"type": "function", "function": {"name"}}',
      }),
    ),
    parallel_tool_calls: orNull(Type.Boolean({ description: 'false: at most one call' })),
    response_format: orNull(
      Type.Object({
        type: enumOf(['text', 'json_object', 'json_schema'] as const),
        json_schema: orNull(
          Type.Object({
            name: orNull(Type.String({ maxLength: 64 })),
            description: orNull(Type.String()),
            schema: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
            strict: orNull(Type.Boolean()),
          }),
        ),
      }),
    ),
  },
  { $id: 'ChatCompletionRequest' },
)
export type ChatCompletionRequest = Static<typeof ChatCompletionRequest>

export const CompletionRequest = Type.Object(
  {
    ...sampling,
    prompt: textOr<string | string[]>('array', {
      type: ['string', 'array'],
      minItems: 1,
      maxItems: 32,
      description: 'A text to continue as it is, or several',
    }),
    max_tokens: orNull(Type.Integer({ minimum: 1, maximum: 131072, description: '16 when left out' })),
    logprobs: orNull(Type.Integer({ minimum: 0, maximum: 20, description: 'So many of the likeliest beside each' })),
    echo: orNull(Type.Boolean({ description: 'The prompt before its answer; not together with logprobs' })),
    best_of: orNull(Type.Integer({ minimum: 1, description: 'Refused unless it is n' })),
    suffix: orNull(Type.String({ description: 'Refused unless empty' })),
  },
  { $id: 'CompletionRequest' },
)
export type CompletionRequest = Static<typeof CompletionRequest>

const Usage = Type.Object({
  prompt_tokens: Type.Integer(),
  completion_tokens: Type.Integer(),
  total_tokens: Type.Integer(),
  prompt_tokens_details: Type.Object({ cached_tokens: Type.Integer() }),
})
export type Usage = Static<typeof Usage>

const head = {
  id: Type.String(),
  created: Type.Integer({ description: 'Unix time, seconds' }),
  model: Type.String({ description: 'As it was asked for' }),
  system_fingerprint: Nullable(
    Type.String({ description: 'Changes with the versions that decide the numbers; null of hosted models' }),
  ),
}

export const FINISH_REASONS = ['stop', 'length', 'tool_calls', 'content_filter'] as const
export type ChatFinish = (typeof FINISH_REASONS)[number]
const Finish = Type.Unsafe<ChatFinish | null>({ type: ['string', 'null'], enum: [...FINISH_REASONS, null] })

const LikelyToken = {
  token: Type.String(),
  logprob: Type.Number(),
  bytes: Nullable(Type.Array(Type.Integer(), { description: 'null of a part of a character' })),
}
export const ChatLogprobs = Type.Object({
  content: Type.Array(Type.Object({ ...LikelyToken, top_logprobs: Type.Array(Type.Object(LikelyToken)) })),
  refusal: Type.Null(),
})
export type ChatLogprobs = Static<typeof ChatLogprobs>

export const ChatCompletion = Type.Object(
  {
    ...head,
    object: Type.Literal('chat.completion'),
    choices: Type.Array(
      Type.Object({
        index: Type.Integer(),
        message: Type.Object({
          role: Type.Literal('assistant'),
          content: Nullable(Type.String()),
          refusal: Type.Null(),
          tool_calls: Type.Optional(Type.Array(ChatToolCall)),
        }),
        finish_reason: Finish,
        logprobs: Nullable(ChatLogprobs),
      }),
    ),
    usage: Usage,
  },
  { $id: 'ChatCompletion' },
)
export type ChatCompletion = Static<typeof ChatCompletion>

export const ChatCompletionChunk = Type.Object(
  {
    ...head,
    object: Type.Literal('chat.completion.chunk'),
    choices: Type.Array(
      Type.Object({
        index: Type.Integer(),
        delta: Type.Object({
          role: Type.Optional(Type.Literal('assistant')),
          content: Type.Optional(Type.String()),
          tool_calls: Type.Optional(
            Type.Array(Type.Object({ index: Type.Integer(), ...ChatToolCall.properties }), {
              description: 'Each call whole, once it has been written',
            }),
          ),
        }),
        finish_reason: Finish,
        logprobs: Nullable(ChatLogprobs),
      }),
    ),
    usage: Type.Optional(Nullable(Usage)),
  },
  { $id: 'ChatCompletionChunk', description: 'At last [DONE]; what fails in mid-stream is one {"error"} instead' },
)
export type ChatCompletionChunk = Static<typeof ChatCompletionChunk>

export const CompletionLogprobs = Type.Object({
  tokens: Type.Array(Type.String()),
  token_logprobs: Type.Array(Type.Number()),
  top_logprobs: Type.Array(Type.Record(Type.String(), Type.Number())),
  text_offset: Type.Array(Type.Integer()),
})
export type CompletionLogprobs = Static<typeof CompletionLogprobs>

export const Completion = Type.Object(
  {
    ...head,
    object: Type.Literal('text_completion'),
    choices: Type.Array(
      Type.Object({
        index: Type.Integer({ description: 'The n answers to the first prompt, then those to the second' }),
        text: Type.String(),
        finish_reason: Finish,
        logprobs: Nullable(CompletionLogprobs),
      }),
    ),
    usage: Type.Optional(Nullable(Usage)),
  },
  { $id: 'Completion', description: 'Also each chunk of a stream, which ends with [DONE]' },
)
export type Completion = Static<typeof Completion>

const model = {
  id: Type.String(),
  object: Type.Literal('model'),
  created: Type.Integer({ description: 'Unix time at which its training was asked for; 0 of base models' }),
  owned_by: Type.String({ description: 'Where it comes from, as source in GET /models' }),
}
export const OpenAIModel = Type.Object(model, { $id: 'OpenAIModel' })
export type OpenAIModel = Static<typeof OpenAIModel>

export const OpenAIModels = Type.Object(
  { object: Type.Literal('list'), data: Type.Array(Type.Object(model)) },
  { $id: 'OpenAIModels' },
)
export type OpenAIModels = Static<typeof OpenAIModels>

export const OpenAIError = Type.Object(
  {
    error: Type.Object({
      message: Type.String(),
      type: Type.String(),
      param: Nullable(Type.String({ description: 'The field that is wrong' })),
      code: Nullable(Type.String()),
    }),
  },
  { $id: 'OpenAIError', description: "Error answers under /v1, in OpenAI's shape" },
)
export type OpenAIError = Static<typeof OpenAIError>
