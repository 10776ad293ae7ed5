/** An answer as text: paragraphs, fenced code and inline code. Whatever else is in it, HTML too, is shown as it came. */
import type { ComponentChildren } from 'preact'
import { Code } from '../../components/code-tabs.tsx'
import { blocksOf } from './blocks.ts'

export function AnswerText({ text }: { text: string }) {
  return (
    <div class="chat-answer-text">
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
