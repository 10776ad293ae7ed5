/** The user's names for what we know by other names, under LLaMA-Factory's names for them (its dataset_info.json). */
import { type Static, Type } from 'typebox'
import { enumOf } from './common.ts'
import { DATASET_FORMATS } from './job.ts'

const Name = (description: string) => Type.Optional(Type.String({ minLength: 1, maxLength: 200, description }))

export const ColumnMap = Type.Object(
  {
    prompt: Name('Instead of instruction (prompt_completion: prompt; text: text)'),
    query: Name('Instead of input'),
    response: Name('Instead of output (prompt_completion: completion)'),
    history: Name('Instead of history: earlier exchanges, [[user, assistant], …]'),
    messages: Name('Instead of conversations or messages'),
    system: Name('Instead of system'),
    tools: Name('Instead of tools'),
  },
  { additionalProperties: false, description: "The file's names for a row's columns" },
)
export type ColumnMap = Static<typeof ColumnMap>

export const TagMap = Type.Object(
  {
    role_tag: Name('The key of a role, instead of from or role'),
    content_tag: Name('The key of a text, instead of value or content'),
    user_tag: Name('The role of the user'),
    assistant_tag: Name('The role of the model'),
    observation_tag: Name("The role of a tool's result"),
    function_tag: Name('The role of a call of a tool'),
    system_tag: Name('The role of the system prompt'),
  },
  { additionalProperties: false, description: "The file's names for a turn's keys and roles" },
)
export type TagMap = Static<typeof TagMap>

/** How a file is to be read. What is left out is detected, or has its usual name. */
export const DatasetReading = Type.Object(
  {
    format: Type.Optional(enumOf(DATASET_FORMATS)),
    columns: Type.Optional(ColumnMap),
    tags: Type.Optional(TagMap),
  },
  { additionalProperties: false, description: 'As it was asked for; {}: as it is detected' },
)
export type DatasetReading = Static<typeof DatasetReading>
