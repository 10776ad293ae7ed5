/** One question, and what each model answers to it. */
import type { Signal } from '@preact/signals'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Badge } from '../../components/badge.tsx'
import { Button } from '../../components/button.tsx'
import { CopyButton } from '../../components/copy.tsx'
import { Icon } from '../../components/icon.tsx'
import { AnswerText } from './answer-text.tsx'
import {
  type Answer,
  answerAgain,
  askInstead,
  type Column,
  columns,
  running,
  stop,
  type Turn as TurnOf,
} from './conversation.ts'
import { naming } from './models.ts'
import { statisticsOf } from './statistics.ts'

export function Turn({ turn, last }: { turn: TurnOf; last: boolean }) {
  const [editing, setEditing] = useState(false)
  return (
    <article class="chat-turn" aria-label={`Question: ${turn.prompt.slice(0, 80)}`}>
      {editing ? (
        <Edit turn={turn} onEnd={() => setEditing(false)} />
      ) : (
        <div class="chat-question">
          <p>{turn.prompt}</p>
          <div class="chat-question-tools">
            <CopyButton text={turn.prompt} label="Copy the question" />
            <Button
              size="small"
              variant="ghost"
              icon="edit"
              label="Edit the question"
              onClick={() => setEditing(true)}
            />
            {last && (
              <Button
                size="small"
                variant="ghost"
                icon="refresh"
                label="Ask all again"
                disabled={running.value}
                onClick={() => askInstead(turn, turn.prompt)}
              />
            )}
          </div>
        </div>
      )}
      <div class="chat-side-by-side">
        {columns.value.map((column, i) => {
          const answer = turn.answers[column.id]
          return answer ? (
            <AnswerCard key={column.id} turn={turn} column={column} at={i} answer={answer} last={last} />
          ) : (
            <article key={column.id} class="chat-answer chat-absent" aria-label={column.model}>
              <p class="muted">{naming(column.model).name} was not asked this</p>
              <Button size="small" icon="play" onClick={() => answerAgain(turn, column)}>
                Ask
              </Button>
            </article>
          )
        })}
      </div>
    </article>
  )
}

function AnswerCard({
  turn,
  column,
  at,
  answer,
  last,
}: {
  turn: TurnOf
  column: Column
  at: number
  answer: Signal<Answer>
  last: boolean
}) {
  const shown = answer.value
  const { model, state, text, error } = shown
  const { name, kind } = naming(model)
  const busy = state === 'waiting' || state === 'streaming'
  return (
    <article class="chat-answer" aria-label={`Answer of ${model}`} aria-busy={busy}>
      <header class="chat-answer-head">
        <span class={`chat-dot chat-dot-${at + 1}`} aria-hidden="true" />
        <span class="chat-answer-model" title={model}>
          {name}
        </span>
        <span class="picker-kind">{kind}</span>
        <span class="chat-answer-tools">
          {busy ? (
            <Button size="small" variant="ghost" icon="stop" label={`Stop ${name}`} onClick={() => stop(answer)} />
          ) : (
            <>
              {text !== '' && <CopyButton text={text} label="Copy the answer" />}
              {last && (
                <Button
                  size="small"
                  variant="ghost"
                  icon="refresh"
                  label={`Ask ${name} again`}
                  onClick={() => answerAgain(turn, column)}
                />
              )}
            </>
          )}
        </span>
      </header>
      <div class="chat-answer-body">
        {text !== '' && <AnswerText text={text} />}
        {state === 'waiting' && (
          <p class="chat-waiting">
            <span class="spinner" aria-hidden="true" />
            <span class="muted">Waiting for the first token</span>
          </p>
        )}
        {error && (
          <p class="notice bad chat-answer-error">
            <Icon name="warning" />
            <span>{error}</span>
          </p>
        )}
        {text === '' && state === 'done' && <p class="muted">The model said nothing.</p>}
      </div>
      <Statistics answer={shown} />
    </article>
  )
}

function Statistics({ answer }: { answer: Answer }) {
  const { facts, outcome } = statisticsOf(answer)
  if (facts.length === 0 && !outcome) return null
  return (
    <footer class="chat-answer-foot">
      {outcome && <Badge tone={outcome.tone}>{outcome.text}</Badge>}
      {facts.map(({ text, meaning }) => (
        <span key={meaning} title={meaning}>
          {text}
        </span>
      ))}
    </footer>
  )
}

function Edit({ turn, onEnd }: { turn: TurnOf; onEnd: () => void }) {
  const [text, setText] = useState(turn.prompt)
  const area = useRef<HTMLTextAreaElement>(null)
  useEffect(() => area.current?.focus(), [])
  const save = () => text.trim() !== '' && askInstead(turn, text.trim())
  return (
    <div class="chat-question chat-editing">
      <textarea
        ref={area}
        class="input"
        aria-label="The question in other words"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === 'Escape') onEnd()
          if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
          event.preventDefault()
          save()
        }}
      />
      <div class="row">
        <Button size="small" variant="primary" disabled={text.trim() === ''} onClick={save}>
          Ask instead
        </Button>
        <Button size="small" onClick={onEnd}>
          Cancel
        </Button>
        <span class="muted small">What came after it is left out</span>
      </div>
    </div>
  )
}
