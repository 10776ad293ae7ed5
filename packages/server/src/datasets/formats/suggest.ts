import { closest } from '../../files/closest.ts'

/** Names that other tools use for the same thing. */
const SYNONYMS: Readonly<Record<string, readonly string[]>> = {
  instruction: ['question', 'prompt', 'query', 'task', 'human', 'user'],
  output: ['answer', 'response', 'completion', 'target', 'reply', 'assistant', 'label'],
  completion: ['response', 'answer', 'output', 'target'],
  prompt: ['question', 'input', 'query'],
  conversations: ['conversation', 'dialog', 'dialogue', 'chat', 'turns', 'dialogs'],
  messages: ['message'],
  from: ['role', 'speaker', 'author'],
  value: ['content', 'text', 'message'],
  role: ['from', 'speaker', 'author'],
  content: ['value', 'text', 'message'],
}

/** The key of a row that was probably meant as `wanted`. */
export function suggestKey(wanted: string, keys: readonly string[]): string | null {
  const synonyms = SYNONYMS[wanted] ?? []
  return keys.find((key) => synonyms.includes(key.toLowerCase())) ?? closest(wanted, keys)
}
