import { ApiError } from '@mlx-training/sdk'
import { useRef, useState } from 'preact/hooks'
import { Button } from './components/button.tsx'
import { Field } from './components/field.tsx'
import { Logo, ThemeToggle } from './components/layout.tsx'
import { signedOutBecause, signIn } from './session.ts'
import { useTitle } from './title.ts'

export function SignIn() {
  useTitle('Sign in')
  const [key, setKey] = useState('')
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<string | null>(null)
  const input = useRef<HTMLInputElement>(null)
  const refuse = (because: string) => {
    setError(because)
    input.current?.focus()
  }
  const submit = async (event: Event) => {
    event.preventDefault()
    if (key.trim() === '') return refuse('Enter an API key')
    // No header can carry others: fetch would fail as if the server were not there.
    if (/[^ -ÿ]/.test(key)) return refuse('This is no key: it has characters that no key has. Copy it again')
    setBusy(true)
    setError(null)
    try {
      await signIn(key.trim())
    } catch (cause) {
      refuse(cause instanceof ApiError ? cause.message : 'The server does not answer. Is it running?')
      setBusy(false)
    }
  }
  return (
    <main class="sign-in" id="main">
      <div class="sign-in-theme">
        <ThemeToggle />
      </div>
      <form class="card sign-in-card" onSubmit={submit}>
        <Logo />
        <h1>Sign in</h1>
        <p class="muted">
          Fine-tune language models on this server, watch them learn, and talk to them. The key stays in this tab and is
          forgotten when it is closed.
        </p>
        {signedOutBecause.value && <p class="notice warning">{signedOutBecause.value}</p>}
        <Field label="API key" error={error}>
          {(props) => (
            <input
              {...props}
              ref={input}
              type="password"
              autocomplete="current-password"
              value={key}
              onInput={(event) => setKey(event.currentTarget.value)}
            />
          )}
        </Field>
        <Button type="submit" variant="primary" busy={busy} wide>
          Sign in
        </Button>
        <p class="muted small">
          The admin key was printed when the server first started, and is in <code>admin.key</code> in its data folder,
          unless <code>MLX_TRAINING_API_KEY</code> sets it.
        </p>
      </form>
    </main>
  )
}
