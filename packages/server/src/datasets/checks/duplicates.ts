import type { Conversation } from '../formats/format.ts'
import type { RowContext } from '../row-context.ts'
import { Hash } from './hash.ts'
import { Seen } from './seen.ts'

/** Rows that train the same thing, and questions asked twice with different answers. */
export class Duplicates {
  readonly #rows: Seen
  readonly #prompts: Seen

  constructor(limit?: number) {
    this.#rows = new Seen(limit)
    this.#prompts = new Seen(limit)
  }

  check({ turns, tools, raw }: Conversation, context: RowContext): void {
    const row = new Hash()
    const prompt = new Hash()
    if (tools) {
      // The same question with other tools at hand is another question.
      const described = JSON.stringify(tools)
      row.add(described)
      prompt.add(described)
    }
    for (const { role, content, train } of turns) {
      row.add(train === false ? 'shown' : role).add(content)
      // An answer that is only shown is part of the question.
      if (role !== 'assistant' || train === false) prompt.add(normalise(content))
    }
    if (raw) {
      row.add(raw.prompt).add(raw.completion)
      // Text without a prompt is no question that could be asked twice.
      prompt.add(raw.prompt === '' ? raw.completion : normalise(raw.prompt))
    }
    const sameRow = this.#rows.firstOf(...row.end(), context.sample)
    const samePrompt = this.#prompts.firstOf(...prompt.end(), context.sample)
    if (sameRow !== null) context.find('duplicate_row', `Same as sample ${sameRow}`)
    else if (samePrompt !== null)
      context.find(
        'duplicate_prompt',
        `Same question as sample ${samePrompt} (letter case and blanks aside), another answer`,
      )
  }

  /** Whether later rows could not be compared any more. */
  get incomplete(): boolean {
    return this.#rows.full || this.#prompts.full
  }
}

const normalise = (text: string) => text.trim().replace(/\s+/g, ' ').toLowerCase()
