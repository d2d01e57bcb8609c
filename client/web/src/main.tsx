/** Starts the page. */
import { render } from "preact";
import { DirectSession } from "./direct-session.ts";
import type { Surroundings } from "./session.ts";
import { tokenSignIn } from "./sign-in.ts";
import "./style/base.css";
import "./style/controls.css";
import "./style/sidebar.css";
import "./style/room.css";
import "./style/message.css";
import "./style/dialogs.css";
import { followTheme } from "./model/prefs.ts";
import { App } from "./ui/app.tsx";

const surroundings: Surroundings = {
  signIn: tokenSignIn,
  openSession: (account) => new DirectSession(location.origin, account),
};

followTheme();

const root = document.getElementById("app");
if (root !== null) render(<App surroundings={surroundings} />, root);
