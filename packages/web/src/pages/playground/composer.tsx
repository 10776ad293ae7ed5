import { useEffect, useRef } from 'preact/hooks'
import { Button } from '../../components/button.tsx'
import { ask, columns, draft, running, stopAll } from './conversation.ts'
import { valid } from './settings.ts'

export function Composer() {
  const area = useRef<HTMLTextAreaElement>(null)
  const busy = running.value
  const text = draft.value
  const ready = text.trim() !== '' && columns.value.length > 0 && valid.value && !busy
  const send = () => {
    if (!ready) return
    ask(text.trim())
    draft.value = ''
    area.current?.focus()
  }
  useEffect(() => {
    // On a phone the keyboard would cover the page before anyone has looked at it.
    if (window.matchMedia('(pointer: fine)').matches) area.current?.focus({ preventScroll: true })
  }, [])
  return (
    <form
      class="chat-composer"
      onSubmit={(event) => {
        event.preventDefault()
        send()
      }}
    >
      <label class="visually-hidden" for="playground-message">
        Message
      </label>
      <textarea
        ref={area}
        id="playground-message"
        rows={1}
        placeholder={columns.value.length > 1 ? 'Ask them all' : 'Ask something'}
        aria-describedby="playground-keys"
        value={text}
        onInput={(event) => {
          draft.value = event.currentTarget.value
        }}
        onKeyDown={(event) => {
          if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
          event.preventDefault()
          send()
        }}
      />
      {busy ? (
        <Button variant="secondary" icon="stop" onClick={stopAll}>
          Stop
        </Button>
      ) : (
        <Button type="submit" variant="primary" icon="up" disabled={!ready}>
          Send
        </Button>
      )}
      <span id="playground-keys" class="chat-composer-keys">
        {columns.value.length === 0
          ? 'Choose a model first: then Enter sends'
          : valid.value
            ? 'Enter sends, Shift+Enter begins a new line'
            : 'A setting has no valid value: see there'}
      </span>
    </form>
  )
}
