/** An answer as text: paragraphs, fenced code and inline code. Whatever else is in it, HTML too, is shown as it came. */
import type { ComponentChildren } from 'preact'
import { Code } from '../../components/code-tabs.tsx'

type Block = { kind: 'text' | 'code'; text: string }

/** Fences of three or more backticks, at the beginning of a line; one that is still open lasts to the end. */
export function blocksOf(text: string): Block[] {
  const blocks: Block[] = []
  let lines: string[] = []
  let fence: string | null = null
  const end = (kind: Block['kind']) => {
    const content = kind === 'code' ? lines.join('\n') : lines.join('\n').trim()
    if (content !== '') blocks.push({ kind, text: content })
    lines = []
  }
  for (const line of text.split('\n')) {
    const mark = /^ {0,3}(`{3,})[^`]*$/.exec(line)?.[1]
    if (fence === null && mark) {
      end('text')
      fence = mark
    } else if (fence !== null && mark && mark.length >= fence.length && line.trim() === mark) {
      end('code')
      fence = null
    } else lines.push(line)
  }
  end(fence === null ? 'text' : 'code')
  return blocks
}

export function AnswerText({ text }: { text: string }) {
  return (
    <div class="answer-text">
      {blocksOf(text).map((block, i) =>
        block.kind === 'code' ? (
          <Code key={i} code={block.text} label="Copy this code" />
        ) : (
          block.text.split(/\n{2,}/).map((paragraph, j) => <p key={`${i}-${j}`}>{withCode(paragraph)}</p>)
        ),
      )}
    </div>
  )
}

function withCode(paragraph: string): ComponentChildren[] {
  // Every other part was between backticks.
  return paragraph.split(/`([^`\n]+)`/).map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part))
}
