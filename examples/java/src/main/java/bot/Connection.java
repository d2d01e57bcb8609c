package bot;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.parley.v1.ClientBatch;
import com.parley.v1.ClientFrame;
import com.parley.v1.Failure;
import com.parley.v1.HeartbeatReply;
import com.parley.v1.ServerBatch;
import com.parley.v1.ServerFrame;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import java.util.function.Function;

/** One WebSocket: sends frames in order, gives each call its answer, and everything else to the listener. */
final class Connection implements WebSocket.Listener, AutoCloseable {
  private static final int CALL_S = 30;

  /** The server's Failure as the answer to a call. */
  static final class Refused extends IOException {
    final transient Failure failure;

    Refused(Failure failure) {
      super(failure.getMessage());
      this.failure = failure;
    }
  }

  private final Consumer<ServerFrame> listener;
  private final Map<Integer, CompletableFuture<ServerFrame>> calls = new ConcurrentHashMap<>();
  private final CompletableFuture<Void> ended = new CompletableFuture<>();
  private final ByteArrayOutputStream message = new ByteArrayOutputStream();
  private final WebSocket socket;
  private CompletableFuture<?> sent = CompletableFuture.completedFuture(null);
  private int lastCall;

  /** The listener is called from one thread at a time, and must not wait. */
  Connection(HttpClient http, String url, String token, Consumer<ServerFrame> listener)
      throws IOException, InterruptedException {
    this.listener = listener;
    URI uri = URI.create(url.replaceFirst("^http", "ws").replaceFirst("/*$", "") + "/ws");
    socket =
        await(
            http.newWebSocketBuilder()
                .subprotocols("parley.v1")
                .header("Authorization", "Bearer " + token)
                .buildAsync(uri, this));
  }

  /** Is called once, when the connection has ended. */
  void onEnd(Runnable run) {
    ended.whenComplete((done, error) -> run.run());
  }

  /** Throws where the connection has ended. */
  void check() throws IOException {
    if (ended.isDone()) throw new IOException(ended.handle((done, error) -> error).join());
  }

  /** A WebSocket of Java's takes the next message when it is done with the last one. */
  synchronized void send(ClientFrame frame) {
    ByteBuffer bytes = ClientBatch.newBuilder().addFrames(frame).build().toByteString().asReadOnlyByteBuffer();
    sent = sent.thenCompose(done -> socket.sendBinary(bytes, true));
    sent.whenComplete(
        (done, error) -> {
          if (error != null) end(error);
        });
  }

  /** Waits for what {@code answer} takes out of the frame that answers this one. */
  <T extends Message> T call(ClientFrame.Builder frame, Function<ServerFrame, T> answer)
      throws IOException, InterruptedException {
    int number = ++lastCall;
    CompletableFuture<ServerFrame> call = new CompletableFuture<>();
    calls.put(number, call);
    try {
      ended.whenComplete((done, error) -> call.completeExceptionally(error));
      send(frame.setRequestId(number).build());
      ServerFrame answered = await(call);
      if (answered.hasFailure()) throw new Refused(answered.getFailure());
      return answer.apply(answered);
    } finally {
      calls.remove(number);
    }
  }

  @Override
  public CompletionStage<?> onBinary(WebSocket from, ByteBuffer bytes, boolean isLast) {
    byte[] piece = new byte[bytes.remaining()];
    bytes.get(piece);
    message.writeBytes(piece);
    if (isLast) {
      try {
        ServerBatch.parseFrom(message.toByteArray()).getFramesList().forEach(this::take);
      } catch (InvalidProtocolBufferException error) {
        end(error);
      }
      message.reset();
    }
    from.request(1);
    return null;
  }

  @Override
  public CompletionStage<?> onClose(WebSocket from, int code, String reason) {
    end(new IOException("closed with code " + code));
    return null;
  }

  @Override
  public void onError(WebSocket from, Throwable error) {
    end(error);
  }

  @Override
  public void close() {
    end(new IOException("closed here"));
    socket.abort();
  }

  private void take(ServerFrame frame) {
    if (frame.hasHeartbeat()) {
      send(ClientFrame.newBuilder().setHeartbeatReply(HeartbeatReply.getDefaultInstance()).build());
    }
    if (frame.getRequestId() == 0) {
      listener.accept(frame);
      return;
    }
    CompletableFuture<ServerFrame> call = calls.get(frame.getRequestId());
    if (call != null) call.complete(frame);
  }

  private void end(Throwable error) {
    ended.completeExceptionally(error);
  }

  private static <T> T await(CompletableFuture<T> future) throws IOException, InterruptedException {
    try {
      return future.get(CALL_S, TimeUnit.SECONDS);
    } catch (ExecutionException error) {
      throw new IOException(error.getCause());
    } catch (TimeoutException error) {
      throw new IOException("no answer within " + CALL_S + " s", error);
    }
  }
}
